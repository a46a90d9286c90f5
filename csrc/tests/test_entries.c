#include "pbs_entries.h"

#include <string.h>

#include "check.h"
#include "pbs_bytes.h"
#include "pbs_error.h"

static uint64_t seed = 20261124;

static struct pbs_index fixed_entries(size_t n, uint64_t chunk_size, uint64_t size)
{
    uint8_t *digests = allocate(n * 32);
    fill_random(&seed, digests, n * 32);
    return (struct pbs_index){.kind = PBS_INDEX_FIXED,
                              .digests = digests,
                              .stride = 32,
                              .n = n,
                              .chunk_size = chunk_size,
                              .size = size};
}

/* Rows of end offset and digest; the sizes of the chunks are given. */
static struct pbs_index dynamic_entries(size_t n, const uint64_t *sizes)
{
    uint8_t *rows = allocate(n * 40);
    uint64_t end = 0;
    fill_random(&seed, rows, n * 40);
    for (size_t i = 0; i < n; i++)
        pbs_store_le64(rows + i * 40, end += sizes[i]);
    return (struct pbs_index){
        .kind = PBS_INDEX_DYNAMIC, .digests = rows + 8, .stride = 40, .n = n, .size = end};
}

static void free_entries(struct pbs_index *index)
{
    free((void *)(uintptr_t)(index->digests - (index->kind == PBS_INDEX_FIXED ? 0 : 8)));
}

static void starts_and_sizes_are_those_of_the_index(void)
{
    struct pbs_index fixed = fixed_entries(3, 1 << 22, (2 << 22) + 5);
    CHECK_EQUAL(pbs_index_start_offset(&fixed, 2), 2 << 22);
    CHECK_EQUAL(pbs_index_chunk_bytes(&fixed, 0), 1 << 22);
    CHECK_EQUAL(pbs_index_chunk_bytes(&fixed, 1), 1 << 22);
    CHECK_EQUAL(pbs_index_chunk_bytes(&fixed, 2), 5);
    fixed.size = 3 << 22;
    CHECK_EQUAL(pbs_index_chunk_bytes(&fixed, 2), 1 << 22);
    free_entries(&fixed);

    struct pbs_index dynamic = dynamic_entries(3, (uint64_t[]){7, 1, (uint64_t)1 << 40});
    CHECK_EQUAL(pbs_index_start_offset(&dynamic, 0), 0);
    CHECK_EQUAL(pbs_index_chunk_bytes(&dynamic, 0), 7);
    CHECK_EQUAL(pbs_index_start_offset(&dynamic, 1), 7);
    CHECK_EQUAL(pbs_index_chunk_bytes(&dynamic, 1), 1);
    CHECK_EQUAL(pbs_index_start_offset(&dynamic, 2), 8);
    CHECK_EQUAL(pbs_index_chunk_bytes(&dynamic, 2), (uint64_t)1 << 40);
    free_entries(&dynamic);
}

static void changes_are_digests_that_differ_and_a_resized_end(void)
{
    struct pbs_index old = fixed_entries(100, 4096, 100 * 4096);
    uint8_t *copy = allocate(100 * 32);
    uint32_t changed[100];
    size_t n = 77;
    memcpy(copy, old.digests, 100 * 32);
    struct pbs_index new = old;
    new.digests = copy;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_OK);
    CHECK_EQUAL(n, 0);
    copy[0] ^= 1;
    copy[50 * 32 + 31] ^= 1;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_OK);
    CHECK(n == 2 && changed[0] == 0 && changed[1] == 50);
    new.size--; /* the last entry covers less, with the same digest: impossible, but it may be */
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_OK);
    CHECK(n == 3 && changed[2] == 99);
    copy[99 * 32] ^= 1; /* named once */
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_OK);
    CHECK(n == 3 && changed[2] == 99);
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 1, 50, changed, &n), PBS_OK);
    CHECK(n == 1 && changed[0] == 50);
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 1, 99, changed, &n), PBS_OK);
    CHECK(n == 2 && changed[1] == 99);
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 100, 0, NULL, &n), PBS_OK);
    CHECK_EQUAL(n, 0);

    n = 77;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 1, 100, changed, &n), PBS_E_INVALID);
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 101, SIZE_MAX, changed, &n), PBS_E_INVALID);
    new.n = 99;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 99, changed, &n), PBS_E_INVALID);
    new.n = 100;
    new.chunk_size = 8192;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_E_INVALID);
    new.chunk_size = 4096;
    new.kind = PBS_INDEX_DYNAMIC;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 100, changed, &n), PBS_E_INVALID);
    CHECK_EQUAL(pbs_entries_changed(&old, &new, 0, 100, changed, &n), PBS_E_INVALID);
    CHECK_EQUAL(n, 77);
    new.kind = PBS_INDEX_FIXED;
    old.n = new.n = 0;
    CHECK_EQUAL(pbs_entries_changed(&new, &old, 0, 0, NULL, &n), PBS_OK);
    CHECK_EQUAL(n, 0);
    free(copy);
    free_entries(&old);
}

static void decimals_are_written(void)
{
    char text[21], expected[21];
    const uint64_t values[] = {0, 9, 10, 99, 100, UINT32_MAX, UINT64_MAX, UINT64_MAX / 10};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        text[pbs_decimal(values[i], text)] = '\0';
        snprintf(expected, sizeof expected, "%llu", (unsigned long long)values[i]);
        CHECK(strcmp(text, expected) == 0);
    }
}

/* What the body should be, written in another way. */
static size_t expected_body(const struct pbs_index *entries, const uint32_t *positions,
                            size_t first, size_t n, uint32_t writer_id, char *out)
{
    char *at = out + sprintf(out, "{\"digest-list\":[");
    for (size_t i = 0; i < n; i++) {
        size_t pos = positions ? positions[i] : first + i;
        at += sprintf(at, "%s\"", i ? "," : "");
        for (size_t k = 0; k < 32; k++)
            at += sprintf(at, "%02x", entries->digests[pos * entries->stride + k]);
        at += sprintf(at, "\"");
    }
    at += sprintf(at, "],\"offset-list\":[");
    for (size_t i = 0; i < n; i++) {
        size_t pos = positions ? positions[i] : first + i;
        at += sprintf(at, "%s%llu", i ? "," : "",
                      (unsigned long long)pbs_index_start_offset(entries, pos));
    }
    at += sprintf(at, "],\"wid\":%u}", writer_id);
    return (size_t)(at - out);
}

/* With every limit: as many entries as fit, not one byte more, and not one entry less. */
static void bodies_hold_what_fits(void)
{
    struct pbs_index fixed = fixed_entries(12, 4 << 20, (uint64_t)12 << 22);
    uint32_t positions[] = {11, 0, 3, 3, 10, 1, 2, 4};
    char expected[4096];
    for (int with_positions = 0; with_positions < 2; with_positions++)
        for (size_t limit = 0; limit < 800; limit++) {
            uint8_t *out = allocate(limit);
            size_t n = 0, len = 0;
            const uint32_t *chosen = with_positions ? positions : NULL;
            int status = pbs_entries_body(&fixed, chosen, 4, 8, 65535, out, limit, &n, &len);
            if (status) {
                CHECK_EQUAL(status, PBS_E_INVALID);
                CHECK(limit < expected_body(&fixed, chosen, 4, 1, 65535, expected));
            } else {
                CHECK_EQUAL(expected_body(&fixed, chosen, 4, n, 65535, expected), len);
                CHECK(len <= limit && memcmp(out, expected, len) == 0);
                if (n < 8)
                    CHECK(expected_body(&fixed, chosen, 4, n + 1, 65535, expected) > limit);
            }
            free(out);
        }
    free_entries(&fixed);
}

/* protocol/backup.md, "Entry lists": 68 N + digits of the offsets + 40 + those of the wid. */
static void a_full_body_of_a_real_server_is_filled(void)
{
    const size_t limit = 524287;
    struct pbs_index fixed = fixed_entries(10000, 4 << 20, (uint64_t)10000 << 22);
    uint8_t *out = allocate(limit);
    char digits[20];
    size_t n = 0, len = 0;
    CHECK_EQUAL(pbs_entries_body(&fixed, NULL, 1000, 9000, 1, out, limit, &n, &len), PBS_OK);
    size_t sum = 41;
    for (size_t i = 0; i < n; i++)
        sum += 68 + pbs_decimal(pbs_index_start_offset(&fixed, 1000 + i), digits);
    CHECK_EQUAL(sum, len);
    CHECK(len <= limit && len + 68 + 11 > limit);
    free(out);
    free_entries(&fixed);
}

static void positions_outside_of_the_index_are_refused(void)
{
    struct pbs_index dynamic = dynamic_entries(2, (uint64_t[]){1, 1});
    uint8_t out[512];
    size_t n = 77, len = 77;
    uint32_t outside[] = {0, 2};
    CHECK_EQUAL(pbs_entries_body(&dynamic, outside, 0, 2, 1, out, 512, &n, &len), PBS_E_INVALID);
    CHECK_EQUAL(pbs_entries_body(&dynamic, NULL, 1, 2, 1, out, 512, &n, &len), PBS_E_INVALID);
    CHECK_EQUAL(pbs_entries_body(&dynamic, NULL, SIZE_MAX, 1, 1, out, 512, &n, &len),
                PBS_E_INVALID);
    CHECK_EQUAL(pbs_entries_body(&dynamic, NULL, 0, 0, 1, out, 512, &n, &len), PBS_E_INVALID);
    CHECK(n == 77 && len == 77);
    CHECK_EQUAL(pbs_entries_body(&dynamic, NULL, 0, 2, 1, out, 512, &n, &len), PBS_OK);
    CHECK_EQUAL(n, 2);
    free_entries(&dynamic);
}

int main(void)
{
    RUN(starts_and_sizes_are_those_of_the_index);
    RUN(changes_are_digests_that_differ_and_a_resized_end);
    RUN(decimals_are_written);
    RUN(bodies_hold_what_fits);
    RUN(a_full_body_of_a_real_server_is_filled);
    RUN(positions_outside_of_the_index_are_refused);
    return 0;
}
