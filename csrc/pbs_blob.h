/*
 * The data blob of chunks and small files, and its CRC-32 (protocol/datastore.md, "Data blob").
 *
 * Functions are pure, thread-safe and keep no pointer.
 */
#ifndef PBS_BLOB_H
#define PBS_BLOB_H

#include <stddef.h>
#include <stdint.h>

#define PBS_BLOB_HEADER_SIZE 12u           /* magic, CRC-32 */
#define PBS_BLOB_ENCRYPTED_HEADER_SIZE 44u /* magic, CRC-32, IV, GCM tag */

enum pbs_blob_kind {
    PBS_BLOB_PLAIN = 1,
    PBS_BLOB_ZSTD = 2,
    PBS_BLOB_ENCRYPTED = 3,
    PBS_BLOB_ZSTD_ENCRYPTED = 4,
};

/* One way to compute the CRC-32; all give the same values. */
struct pbs_crc32_backend {
    const char *name;
    uint32_t (*update)(uint32_t crc, const uint8_t *data, size_t length);
};

/*
 * CRC-32 (IEEE 802.3, as zlib) of `length` bytes at `data` (any alignment).  `crc` is 0 to begin
 * with, or the value of the bytes that precede.
 */
uint32_t pbs_crc32(uint32_t crc, const uint8_t *data, size_t length);

/* The backends that this CPU can run, slowest first; pbs_crc32() uses the last of *out_n. */
const struct pbs_crc32_backend *pbs_crc32_backends(size_t *out_n);

/* Name of the backend in use, for reports: "portable", "pclmul" or "vpclmul". */
const char *pbs_crc32_backend(void);

/* What a blob's header says. */
struct pbs_blob_header {
    enum pbs_blob_kind kind;
    int encrypted;
    size_t size;  /* of the header */
    uint32_t crc; /* of all that follows it */
};

/*
 * Read the header of a blob of which at least the first `length` bytes are at data; all of it, or as
 * much as the longest header. Errors: those of pbs_blob_check but PBS_E_CRC.
 */
int pbs_blob_read_header(const uint8_t *data, size_t length, struct pbs_blob_header *out);

/*
 * Check a whole blob: magic, room for the header of its kind and, where want_crc is not 0, the CRC
 * of what follows the header.  How long it may be is the caller's to check.
 * Errors: PBS_E_TRUNCATED (below 12 bytes), PBS_E_MAGIC, PBS_E_LENGTH (an encrypted kind below 44
 * bytes), PBS_E_CRC.
 */
int pbs_blob_check(const uint8_t *data, size_t length, int want_crc, enum pbs_blob_kind *out_kind);

#endif
