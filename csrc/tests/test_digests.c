#include "pbs_digests.h"

#include <stdbool.h>
#include <string.h>

#include "check.h"
#include "pbs_error.h"

static uint64_t seed = 20261122;

static struct pbs_digests *new_set(uint64_t expected)
{
    uint8_t key[PBS_DIGESTS_KEY_SIZE];
    struct pbs_digests *set = NULL;
    fill_random(&seed, key, sizeof key);
    CHECK_EQUAL(pbs_digests_new(key, expected, NULL, &set), PBS_OK);
    return set;
}

static struct pbs_digests_stats stats_of(const struct pbs_digests *set)
{
    struct pbs_digests_stats stats;
    pbs_digests_measure(set, &stats);
    return stats;
}

static struct pbs_rows random_rows(size_t n, ptrdiff_t stride)
{
    uint8_t *memory = allocate(n * (size_t)stride);
    fill_random(&seed, memory, n * (size_t)stride);
    return (struct pbs_rows){memory, stride, n};
}

static void free_rows(struct pbs_rows rows)
{
    free((void *)(uintptr_t)rows.base);
}

static struct pbs_rows part(struct pbs_rows rows, size_t from, size_t n)
{
    return (struct pbs_rows){rows.base + (ptrdiff_t)from * rows.stride, rows.stride, n};
}

static size_t insert(struct pbs_digests *set, struct pbs_rows rows)
{
    size_t added = 0;
    CHECK_EQUAL(pbs_digests_insert(set, pbs_all(rows), NULL, NULL, &added), PBS_OK);
    return added;
}

static size_t count_found(struct pbs_digests *set, struct pbs_rows rows)
{
    uint8_t *found = allocate(rows.n);
    size_t sum = 0;
    CHECK_EQUAL(pbs_digests_contains(set, pbs_all(rows), found), PBS_OK);
    for (size_t i = 0; i < rows.n; i++) {
        CHECK(found[i] <= 1);
        sum += found[i];
    }
    free(found);
    return sum;
}

static void an_empty_batch_changes_nothing(void)
{
    struct pbs_digests *set = new_set(0);
    struct pbs_rows none = {NULL, 32, 0};
    size_t n = 1;
    CHECK(insert(set, none) == 0 && count_found(set, none) == 0);
    CHECK_EQUAL(pbs_digests_difference(set, pbs_all(none), NULL, &n), PBS_OK);
    CHECK_EQUAL(n, 0);
    CHECK_EQUAL(stats_of(set).count, 0);
    pbs_digests_free(set);
    pbs_digests_free(NULL);
}

/* Sizes around a block and around growth, both strides, forwards and backwards. */
static void members_are_found_and_others_not(void)
{
    const size_t sizes[] = {1, 2, 63, 64, 65, 127, 128, 129, 1000, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (ptrdiff_t stride = 32; stride <= 40; stride += 8) {
            struct pbs_digests *set = new_set(i % 2 != 0 ? sizes[i] : 0);
            struct pbs_rows rows = random_rows(sizes[i], stride);
            struct pbs_rows others = random_rows(sizes[i], stride);
            struct pbs_rows reversed = {rows.base + (ptrdiff_t)(rows.n - 1) * stride, -stride,
                                        rows.n};
            CHECK_EQUAL(insert(set, rows), rows.n);
            CHECK_EQUAL(insert(set, reversed), 0);
            CHECK_EQUAL(count_found(set, rows), rows.n);
            CHECK_EQUAL(count_found(set, reversed), rows.n);
            CHECK_EQUAL(count_found(set, others), 0);
            CHECK_EQUAL(stats_of(set).count, rows.n);
            pbs_digests_free(set);
            free_rows(rows);
            free_rows(others);
        }
}

/* Rows drawn from few different digests, so that batches repeat themselves and each other. */
static struct pbs_rows repeating_rows(struct pbs_rows pool, size_t n, ptrdiff_t stride,
                                      size_t *out_choice)
{
    struct pbs_rows rows = random_rows(n, stride);
    for (size_t i = 0; i < n; i++) {
        out_choice[i] = next_random(&seed) % pool.n;
        memcpy((uint8_t *)(uintptr_t)rows.base + (ptrdiff_t)i * stride,
               pool.base + (ptrdiff_t)out_choice[i] * pool.stride, 32);
    }
    return rows;
}

enum { POOL = 700, LONGEST = 300 };

/* All rows, or as many of them picked in any order, some of them twice. */
static struct pbs_batch random_batch(struct pbs_rows rows, uint32_t *at)
{
    if ((next_random(&seed) & 1) != 0)
        return pbs_all(rows);
    for (size_t i = 0; i < rows.n; i++)
        at[i] = (uint32_t)(next_random(&seed) % rows.n);
    return (struct pbs_batch){rows, at, rows.n};
}

/* One random operation on the set and on the oracle `known`; what both say must be equal. */
static bool compare_one(struct pbs_digests *set, struct pbs_rows rows, const size_t *choice,
                        bool *known)
{
    uint8_t flags[LONGEST];
    uint32_t positions[LONGEST];
    uint32_t at[LONGEST];
    struct pbs_batch batch = random_batch(rows, at);
    size_t n_positions = 0, n_expected = 0;
    uint64_t operation = next_random(&seed) % 3;
    if (operation == 0)
        CHECK_EQUAL(pbs_digests_insert(set, batch, flags, positions, &n_positions), PBS_OK);
    else if (operation == 1)
        CHECK_EQUAL(pbs_digests_contains(set, batch, flags), PBS_OK);
    else
        CHECK_EQUAL(pbs_digests_difference(set, batch, positions, &n_positions), PBS_OK);
    for (size_t i = 0; i < rows.n; i++) {
        size_t chosen = choice[batch.at == NULL ? i : batch.at[i]];
        bool was_known = known[chosen];
        if (operation == 0)
            known[chosen] = true;
        if (operation != 2)
            CHECK(flags[i] == (operation == 0 ? !was_known : was_known));
        if (operation != 1 && !was_known) {
            CHECK(n_expected < n_positions && positions[n_expected] == i);
            n_expected++;
        }
    }
    CHECK_EQUAL(n_positions, n_expected);
    return n_expected > 0 && operation == 0;
}

static void any_sequence_does_what_an_oracle_does(void)
{
    for (int round = 0; round < 60; round++) {
        struct pbs_digests *set = new_set(next_random(&seed) % POOL);
        struct pbs_rows pool = random_rows(POOL, 32);
        bool known[POOL] = {false};
        struct pbs_rows kept[200];
        size_t n_kept = 0;
        for (int step = 0; step < 200; step++) {
            size_t choice[LONGEST];
            size_t n = next_random(&seed) % (LONGEST + 1) / (1 + next_random(&seed) % 40);
            ptrdiff_t stride = (next_random(&seed) & 1) != 0 ? 32 : 40;
            struct pbs_rows rows = repeating_rows(pool, n, stride, choice);
            if (compare_one(set, rows, choice, known))
                kept[n_kept++] = rows;
            else
                free_rows(rows); /* nothing was added: a reference to them would be seen */
        }
        size_t n_known = 0;
        for (size_t i = 0; i < POOL; i++)
            n_known += known[i];
        CHECK_EQUAL(stats_of(set).count, n_known);
        CHECK_EQUAL(count_found(set, pool), n_known);
        pbs_digests_free(set);
        for (size_t i = 0; i < n_kept; i++)
            free_rows(kept[i]);
        free_rows(pool);
    }
}

static void slices_of_one_index_are_one_segment(void)
{
    struct pbs_rows rows = random_rows(64 * 1000, 40);
    struct pbs_digests *set = new_set(rows.n);
    uint64_t before = stats_of(set).nbytes;
    for (size_t from = 0; from < rows.n; from += 64)
        CHECK_EQUAL(insert(set, part(rows, from, 64)), 64);
    CHECK(stats_of(set).nbytes - before < 1000);
    CHECK_EQUAL(insert(set, part(rows, 100, 5000)), 0);
    CHECK_EQUAL(count_found(set, rows), rows.n);
    pbs_digests_free(set);
    free_rows(rows);
}

static void a_million_fit_in_16_mib(void)
{
    enum { MILLION = 1000000 };
    const uint64_t expected[] = {0, 1000, MILLION};
    struct pbs_rows rows = random_rows(MILLION, 32);
    for (size_t i = 0; i < 3; i++) {
        struct pbs_digests *set = new_set(expected[i]);
        uint64_t before = stats_of(set).nbytes;
        CHECK_EQUAL(insert(set, rows), MILLION);
        CHECK(stats_of(set).nbytes <= 16u << 20);
        if (expected[i] == MILLION) {
            CHECK_EQUAL(insert(set, rows), 0);
            CHECK(stats_of(set).nbytes - before < 1000); /* it did not grow */
        }
        CHECK_EQUAL(count_found(set, rows), MILLION);
        pbs_digests_free(set);
    }
    free_rows(rows);
}

/* Mean number of slots that an insertion looks at, for digests that `craft` has made: under the worst
 * of many keys, since those who craft may try again and again. */
static double probes_per_row(void (*craft)(uint8_t *digest, uint64_t number))
{
    struct pbs_rows rows = random_rows(5000, 32);
    double worst = 0;
    for (size_t i = 0; i < rows.n; i++)
        craft((uint8_t *)(uintptr_t)rows.base + 32 * i, i);
    for (int keys = 0; keys < 100; keys++) {
        struct pbs_digests *set = new_set(rows.n);
        CHECK_EQUAL(insert(set, rows), rows.n);
        CHECK_EQUAL(count_found(set, rows), rows.n);
        double mean = (double)stats_of(set).probes / (2.0 * (double)rows.n);
        worst = mean > worst ? mean : worst;
        pbs_digests_free(set);
    }
    free_rows(rows);
    return worst;
}

static void craft_random(uint8_t *digest, uint64_t number)
{
    (void)digest;
    (void)number;
}

static void craft_first_word(uint8_t *digest, uint64_t number)
{
    memset(digest, 0, 32);
    pbs_store_le64(digest, number);
}

static void craft_last_word(uint8_t *digest, uint64_t number)
{
    memset(digest, 0xff, 32);
    pbs_store_le64(digest + 24, number << 40);
}

/* The same sum of words for every number, which defeats a hash that just adds or xors them up. */
static void craft_equal_sums(uint8_t *digest, uint64_t number)
{
    memset(digest, 0, 32);
    pbs_store_le64(digest, number);
    pbs_store_le64(digest + 8, 0 - number);
    pbs_store_le64(digest + 16, number);
    pbs_store_le64(digest + 24, 0 - number);
}

static void crafted_digests_cost_what_random_ones_do(void)
{
    double usual = probes_per_row(craft_random);
    CHECK(usual < 10);
    CHECK(probes_per_row(craft_first_word) < 2 * usual);
    CHECK(probes_per_row(craft_last_word) < 2 * usual);
    CHECK(probes_per_row(craft_equal_sums) < 2 * usual);
}

static void rows_that_change_give_wrong_answers_only(void)
{
    struct pbs_rows rows = random_rows(5000, 32);
    struct pbs_digests *set = new_set(0);
    CHECK_EQUAL(insert(set, rows), rows.n);
    memset((void *)(uintptr_t)rows.base, 0, 32 * rows.n);
    CHECK(count_found(set, rows) <= rows.n);
    CHECK(insert(set, rows) <= rows.n);
    pbs_digests_free(set);
    free_rows(rows);
}

/* What a set says that it is done with: how much, and whether it is of the rows it was given. */
static struct pbs_rows watched;
enum { WHOLE = 300000 * 40 - 8 };
static size_t told, told_bytes, told_whole;

static void watch(const void *from, size_t length)
{
    const uint8_t *base = watched.base;
    size_t size = watched.n * (size_t)watched.stride;
    CHECK((const uint8_t *)from >= base && (size_t)((const uint8_t *)from - base) + length <= size);
    if (length == WHOLE) {
        told_whole++;
        return;
    }
    CHECK(length < 2u << 20); /* a MiB or two at a time */
    told++;
    told_bytes += length;
}

static void rows_that_were_passed_are_told(void)
{
    uint8_t key[PBS_DIGESTS_KEY_SIZE];
    struct pbs_digests *set = NULL;
    const size_t n = 300000;
    fill_random(&seed, key, sizeof key);
    watched = random_rows(n, 40);
    struct pbs_rows rows = {watched.base + 8, 40, n};
    struct pbs_rows reversed = {rows.base + 40 * (n - 1), -40, n};
    CHECK_EQUAL(pbs_digests_new(key, n, watch, &set), PBS_OK);
    insert(set, rows);
    CHECK_EQUAL(told_bytes, 40 * n - 8 * told);
    told = told_bytes = told_whole = 0;
    CHECK_EQUAL(count_found(set, reversed), n);
    CHECK_EQUAL(told_bytes, 40 * n - 8 * told);
    CHECK(told_whole >= 2); /* the members' rows */
    pbs_digests_free(set);
    free_rows(watched);
}

static void blocks_of_picked_rows_are_one_segment(void)
{
    enum { ROWS = 5000, PICKED = 2500 };
    struct pbs_rows rows = random_rows(ROWS, 40);
    struct pbs_digests *set = new_set(ROWS);
    uint64_t before = stats_of(set).nbytes;
    size_t added = 0;
    for (uint32_t start = 0; start < ROWS; start += 10) {
        uint32_t at[5];
        for (uint32_t i = 0; i < 5; i++)
            at[i] = start + 2 * i;
        CHECK_EQUAL(pbs_digests_insert(set, (struct pbs_batch){rows, at, 5}, NULL, NULL, &added),
                    PBS_OK);
        CHECK_EQUAL(added, 5);
    }
    CHECK_EQUAL(count_found(set, rows), PICKED);
    CHECK(stats_of(set).nbytes - before < 256);
    pbs_digests_free(set);
    free_rows(rows);
}

static void a_position_beyond_the_rows_is_refused(void)
{
    struct pbs_rows rows = random_rows(10, 32);
    struct pbs_digests *set = new_set(0);
    const uint32_t at[] = {0, 9, 10};
    struct pbs_batch batch = {rows, at, 3};
    uint8_t flags[3] = {7, 7, 7};
    uint32_t places[3];
    size_t n = 77;
    CHECK_EQUAL(pbs_digests_insert(set, batch, flags, places, &n), PBS_E_INVALID);
    CHECK_EQUAL(pbs_digests_contains(set, batch, flags), PBS_E_INVALID);
    CHECK_EQUAL(pbs_digests_difference(set, batch, places, &n), PBS_E_INVALID);
    CHECK(n == 77 && flags[0] == 7 && stats_of(set).count == 0);
    pbs_digests_free(set);
    free_rows(rows);
}

static void too_many_rows_are_refused(void)
{
    struct pbs_digests *set = NULL;
    uint8_t key[PBS_DIGESTS_KEY_SIZE] = {1};
    uint8_t digest[32] = {0};
    size_t added = 77;
    CHECK_EQUAL(pbs_digests_new(key, (uint64_t)PBS_DIGESTS_MAX_ROWS + 1, NULL, &set),
                PBS_E_TOO_LARGE);
    CHECK(set == NULL);
    set = new_set(0);
    /* One row again and again: a batch of any length without its memory. */
    struct pbs_rows rows = {digest, 0, (size_t)PBS_DIGESTS_MAX_ROWS + 1};
    CHECK_EQUAL(pbs_digests_insert(set, pbs_all(rows), NULL, NULL, &added), PBS_E_FULL);
    CHECK_EQUAL(pbs_digests_difference(set, pbs_all(rows), NULL, &added), PBS_E_FULL);
    CHECK(added == 77 && stats_of(set).count == 0);
    rows.n = 1000;
    CHECK_EQUAL(insert(set, rows), 1);
    rows.n = PBS_DIGESTS_MAX_ROWS - 999;
    CHECK_EQUAL(pbs_digests_insert(set, pbs_all(rows), NULL, NULL, &added), PBS_E_FULL);
    CHECK_EQUAL(count_found(set, (struct pbs_rows){digest, 32, 1}), 1);
    pbs_digests_free(set);
}

int main(void)
{
    RUN(an_empty_batch_changes_nothing);
    RUN(members_are_found_and_others_not);
    RUN(any_sequence_does_what_an_oracle_does);
    RUN(slices_of_one_index_are_one_segment);
    RUN(a_million_fit_in_16_mib);
    RUN(crafted_digests_cost_what_random_ones_do);
    RUN(rows_that_change_give_wrong_answers_only);
    RUN(rows_that_were_passed_are_told);
    RUN(blocks_of_picked_rows_are_one_segment);
    RUN(a_position_beyond_the_rows_is_refused);
    RUN(too_many_rows_are_refused);
    return 0;
}
