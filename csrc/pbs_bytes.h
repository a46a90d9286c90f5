/*
 * Unaligned loads and stores of integers in a given byte order, and the size of a digest.
 *
 * Each goes through memcpy, so any address will do; compilers make one instruction of it.
 * Everything on disk is little endian (protocol/datastore.md), everything in HTTP/2 big endian.
 */
#ifndef PBS_BYTES_H
#define PBS_BYTES_H

#include <stdint.h>
#include <string.h>

#define PBS_DIGEST_SIZE 32u /* SHA-256 */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PBS_LE32(x) (x)
#define PBS_LE64(x) (x)
#define PBS_BE16(x) __builtin_bswap16(x)
#define PBS_BE32(x) __builtin_bswap32(x)
#define PBS_BE64(x) __builtin_bswap64(x)
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define PBS_LE32(x) __builtin_bswap32(x)
#define PBS_LE64(x) __builtin_bswap64(x)
#define PBS_BE16(x) (x)
#define PBS_BE32(x) (x)
#define PBS_BE64(x) (x)
#else
#error "unknown byte order"
#endif

static inline uint32_t pbs_load_le32(const void *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return PBS_LE32(value);
}

static inline uint64_t pbs_load_le64(const void *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return PBS_LE64(value);
}

static inline uint16_t pbs_load_be16(const void *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return PBS_BE16(value);
}

static inline uint32_t pbs_load_be32(const void *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return PBS_BE32(value);
}

static inline uint64_t pbs_load_be64(const void *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return PBS_BE64(value);
}

static inline void pbs_store_le32(void *to, uint32_t value)
{
    value = PBS_LE32(value);
    memcpy(to, &value, sizeof value);
}

static inline void pbs_store_le64(void *to, uint64_t value)
{
    value = PBS_LE64(value);
    memcpy(to, &value, sizeof value);
}

static inline void pbs_store_be16(void *to, uint16_t value)
{
    value = PBS_BE16(value);
    memcpy(to, &value, sizeof value);
}

static inline void pbs_store_be24(void *to, uint32_t value)
{
    unsigned char *bytes = to;
    bytes[0] = (unsigned char)(value >> 16);
    bytes[1] = (unsigned char)(value >> 8);
    bytes[2] = (unsigned char)value;
}

static inline uint32_t pbs_load_be24(const void *from)
{
    const unsigned char *bytes = from;
    return (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
}

static inline void pbs_store_be32(void *to, uint32_t value)
{
    value = PBS_BE32(value);
    memcpy(to, &value, sizeof value);
}

static inline void pbs_store_be64(void *to, uint64_t value)
{
    value = PBS_BE64(value);
    memcpy(to, &value, sizeof value);
}

#endif
