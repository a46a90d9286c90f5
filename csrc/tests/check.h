/* The least that a C test needs: a check that says what failed, and repeatable random numbers. */
#ifndef PBS_TESTS_CHECK_H
#define PBS_TESTS_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

/* Like CHECK(a == b) for integers, and shows them. */
#define CHECK_EQUAL(a, b)                                                                   \
    do {                                                                                    \
        long long left_ = (long long)(a);                                                   \
        long long right_ = (long long)(b);                                                  \
        if (left_ != right_) {                                                              \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #a, left_, \
                    right_);                                                                \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

/* Run one test function and say so, so that a crash names its test. */
#define RUN(test)                \
    do {                         \
        printf("  %s\n", #test); \
        fflush(stdout);          \
        test();                  \
    } while (0)

/* xorshift64*: the same numbers from the same seed (not 0) everywhere. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

static inline void fill_random(uint64_t *state, uint8_t *out, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (uint8_t)(next_random(state) >> 56);
}

static inline void *allocate(size_t length)
{
    /* One byte at least, and exactly as many as asked for, so that the sanitizer sees overruns. */
    void *memory = malloc(length > 0 ? length : 1);
    CHECK(memory != NULL);
    return memory;
}

#endif
