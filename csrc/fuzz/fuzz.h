/*
 * What the fuzz targets share: reading decisions and bytes out of libFuzzer's input, and a check
 * that ends the run, so that libFuzzer keeps the input that broke it.
 *
 * Reading beyond the end gives zeros, so that every input means something.
 */
#ifndef PBS_FUZZ_H
#define PBS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pbs_bytes.h"
#include "pbs_error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take_u8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint16_t take_u16(struct input *in)
{
    uint16_t low = take_u8(in);
    return (uint16_t)(low | take_u8(in) << 8);
}

static inline uint32_t take_u32(struct input *in)
{
    uint32_t low = take_u16(in);
    return low | (uint32_t)take_u16(in) << 16;
}

static inline uint64_t take_u64(struct input *in)
{
    uint64_t low = take_u32(in);
    return low | (uint64_t)take_u32(in) << 32;
}

/* The next n bytes, or as many as there are: *out_n says how many. */
static inline const uint8_t *take_bytes(struct input *in, size_t n, size_t *out_n)
{
    const uint8_t *bytes = in->at;
    *out_n = n < in->left ? n : in->left;
    in->at += *out_n;
    in->left -= *out_n;
    return bytes;
}

static inline void *allocate(size_t n)
{
    void *memory = malloc(n ? n : 1);
    CHECK(memory != NULL);
    return memory;
}

/* A copy in memory of exactly that size: the sanitizer sees what reads beyond it. */
static inline uint8_t *exact_copy(const void *bytes, size_t n)
{
    uint8_t *copy = allocate(n);
    if (n)
        memcpy(copy, bytes, n);
    return copy;
}

/* Read every byte, so that the sanitizer sees those that must not be read. */
static inline void touch(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)*(const volatile uint8_t *)(bytes + i);
}

#endif
