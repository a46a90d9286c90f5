#define _DEFAULT_SOURCE /* madvise */
#include "pbs_digests.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pbs_error.h"

/*
 * Rows are worked off in blocks, in three passes: hash all and ask for their slots' cache lines;
 * look at the slots and ask for the rows they refer to; compare.  Each pass finds what the one
 * before has fetched, so the memory's latency is paid once a block and not twice a row.
 */
#define BLOCK 64u

/* After how many rows the caller is told that they were passed. */
#define PASSED_ROWS (1u << 15)
/*
 * After how many look-ups that found members all members' rows are passed.  Mostly members are found
 * in about the order in which they lie; where not, their pages come back that often.
 */
#define PASSED_MEMBERS (1u << 17)
/*
 * What a row counts that was looked at for its tag alone (of n rows in a set of n, n^2 / 2^33): it lies
 * anywhere, so that each brings in pages that nobody needs: 64 KiB, or 2 MiB where the kernel keeps the
 * file in pieces as large.
 */
#define STRAY (1u << 16)

/* Slots of a table that is being left, given back at once: whole pages, most of them. */
#define LEFT_SLOTS (1u << 17)

/* A batch that brought members: its rows are numbered from first_row on. */
struct segment {
    uint64_t first_row;
    struct pbs_rows rows;
};

/*
 * The table: open addressing with linear probing, nothing is ever removed.  A slot holds the tag in
 * its upper half and the row's number plus 1 in its lower; 0 is empty.  The tag alone decides where
 * a member belongs, in the order of tags, so growing is one pass over both tables and reads no row.
 */
struct pbs_digests {
    struct pbs_hash hash;
    uint64_t *slots;
    size_t capacity; /* even */
    size_t limit;    /* members that it takes before it grows: 3/4 of the capacity */
    size_t count;
    uint64_t probes;
    pbs_digests_passed *passed;
    size_t compared; /* rows with members, since members' rows were passed */
    struct segment *segments;
    size_t n_segments;
    size_t room_for_segments;
};

/* The tag of a digest. */
static uint32_t hash(const struct pbs_digests *set, const uint8_t *digest)
{
    return (uint32_t)(pbs_hash_of(&set->hash, digest) >> 32);
}

static bool equal(const uint8_t *a, const uint8_t *b)
{
    uint64_t difference = 0;
    for (size_t at = 0; at < PBS_DIGEST_SIZE; at += 8)
        difference |= pbs_load_le64(a + at) ^ pbs_load_le64(b + at);
    return difference == 0;
}

static const uint8_t *row_at(struct pbs_rows rows, size_t pos)
{
    return rows.base + (ptrdiff_t)pos * rows.stride;
}

static size_t row_number(struct pbs_batch batch, size_t i)
{
    return batch.at == NULL ? i : batch.at[i];
}

static const uint8_t *member(const struct pbs_digests *set, uint64_t slot_value)
{
    uint64_t row = (uint32_t)slot_value - 1u;
    size_t low = 0;
    size_t high = set->n_segments;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (set->segments[middle].first_row <= row)
            low = middle;
        else
            high = middle;
    }
    const struct segment *segment = &set->segments[low];
    return row_at(segment->rows, (size_t)(row - segment->first_row));
}

static size_t home(size_t capacity, uint32_t tag)
{
    /* tag * capacity / 2^32, halved and doubled because the product may need 65 bits */
    return (size_t)((uint64_t)tag * (uint64_t)(capacity / 2) >> 31);
}

static size_t next(const struct pbs_digests *set, size_t at)
{
    return at + 1 == set->capacity ? 0 : at + 1;
}

static int capacity_for(uint64_t members, size_t *out_capacity)
{
    uint64_t capacity = (members * 4 / 3 + 2) & ~(uint64_t)1;
    if (capacity > SIZE_MAX / sizeof(uint64_t))
        return PBS_E_NOMEM;
    *out_capacity = (size_t)capacity;
    return PBS_OK;
}

/*
 * Give back the whole pages of slots from..to of a table that is being left, so that there is never
 * more than about one table in memory.  They read as zeros, but are not read any more.
 */
static void leave_slots(uint64_t *slots, size_t from, size_t to)
{
    uintptr_t page_mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;
    uintptr_t start = ((uintptr_t)(slots + from) + page_mask) & ~page_mask;
    uintptr_t end = (uintptr_t)(slots + to) & ~page_mask;
    if (start < end)
        madvise((void *)start, end - start, MADV_DONTNEED);
}

static int resize(struct pbs_digests *set, uint64_t members)
{
    size_t capacity;
    int status = capacity_for(members, &capacity);
    if (status != PBS_OK)
        return status;
    uint64_t *slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return PBS_E_NOMEM;
    for (size_t from = 0; from < set->capacity; from++) {
        uint64_t value = set->slots[from];
        if (from > 0 && from % LEFT_SLOTS == 0)
            leave_slots(set->slots, from - LEFT_SLOTS, from);
        if (value == 0)
            continue;
        size_t at = home(capacity, (uint32_t)(value >> 32));
        while (slots[at] != 0)
            at = at + 1 == capacity ? 0 : at + 1;
        slots[at] = value;
    }
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    set->limit = (size_t)members;
    return PBS_OK;
}

int pbs_digests_new(const uint8_t key[PBS_DIGESTS_KEY_SIZE], uint64_t expected,
                    pbs_digests_passed *passed, struct pbs_digests **out)
{
    if (expected > PBS_DIGESTS_MAX_ROWS)
        return PBS_E_TOO_LARGE;
    struct pbs_digests *set = calloc(1, sizeof *set);
    if (set == NULL)
        return PBS_E_NOMEM;
    pbs_hash_init(&set->hash, key);
    set->passed = passed;
    int status = resize(set, expected + BLOCK); /* see reserve() */
    if (status != PBS_OK) {
        free(set);
        return status;
    }
    *out = set;
    return PBS_OK;
}

void pbs_digests_free(struct pbs_digests *set)
{
    if (set == NULL)
        return;
    free(set->slots);
    free(set->segments);
    free(set);
}

void pbs_digests_measure(const struct pbs_digests *set, struct pbs_digests_stats *out)
{
    out->count = set->count;
    out->nbytes = sizeof *set + (uint64_t)set->capacity * sizeof *set->slots +
                  (uint64_t)set->room_for_segments * sizeof *set->segments;
    out->probes = set->probes;
}

/* A row of the block that is worked on, its number, and the first slot that may hold its equal. */
struct probe {
    const uint8_t *digest;
    size_t row;
    uint32_t tag;
    size_t at;
};

/* Passes one and two over a block of n rows from `start` on. */
static void prepare(struct pbs_digests *set, struct pbs_batch batch, size_t start, size_t n,
                    struct probe *block)
{
    for (size_t i = 0; i < n; i++) {
        size_t row = row_number(batch, start + i);
        const uint8_t *digest = row_at(batch.rows, row);
        uint32_t tag = hash(set, digest);
        block[i] = (struct probe){digest, row, tag, home(set->capacity, tag)};
        __builtin_prefetch(&set->slots[block[i].at]);
    }
    for (size_t i = 0; i < n; i++) {
        size_t at = block[i].at;
        for (;; at = next(set, at)) {
            uint64_t value = set->slots[at];
            set->probes++;
            if (value == 0)
                break;
            if ((uint32_t)(value >> 32) == block[i].tag) {
                __builtin_prefetch(member(set, value));
                break;
            }
        }
        block[i].at = at;
    }
}

/*
 * Pass three: the slot of the member equal to the row, or the empty one where it belongs.  It goes
 * on from where pass two stopped, since earlier rows of the block may have filled that slot.
 */
static size_t find(struct pbs_digests *set, const struct probe *probe)
{
    size_t at = probe->at;
    for (;; at = next(set, at)) {
        uint64_t value = set->slots[at];
        set->probes++;
        if (value == 0)
            return at;
        if ((uint32_t)(value >> 32) != probe->tag)
            continue;
        if (equal(member(set, value), probe->digest)) {
            set->compared++;
            return at;
        }
        set->compared += STRAY;
    }
}

/* The rows numbered from..to, to included, were passed. */
static void tell_passed(const struct pbs_digests *set, struct pbs_rows rows, size_t from, size_t to)
{
    const uint8_t *first = row_at(rows, from);
    const uint8_t *last = row_at(rows, to);
    const uint8_t *start = first < last ? first : last;
    set->passed(start, (size_t)(first < last ? last - first : first - last) + PBS_DIGEST_SIZE);
}

/* The batch was worked off up to its row `to`; what is before *passed has been told of. */
static void pass(struct pbs_digests *set, struct pbs_batch batch, size_t to, size_t *passed)
{
    if (set->passed == NULL || (to < batch.n && to - *passed < PASSED_ROWS))
        return;
    tell_passed(set, batch.rows, row_number(batch, *passed), row_number(batch, to - 1));
    *passed = to;
    if (set->compared < PASSED_MEMBERS)
        return;
    for (size_t i = 0; i < set->n_segments; i++)
        tell_passed(set, set->segments[i].rows, 0, set->segments[i].rows.n - 1);
    set->compared = 0;
}

static size_t block_size(size_t n, size_t start)
{
    return n - start < BLOCK ? n - start : BLOCK;
}

static uint64_t rows_in_use(const struct pbs_digests *set)
{
    if (set->n_segments == 0)
        return 0;
    const struct segment *last = &set->segments[set->n_segments - 1];
    return last->first_row + last->rows.n;
}

static bool same(struct pbs_rows a, struct pbs_rows b)
{
    return a.base == b.base && a.stride == b.stride && a.n == b.n;
}

/* Whether the rows begin where the segment's end, as consecutive slices of one index do. */
static bool continues(const struct segment *segment, struct pbs_rows rows)
{
    return segment->rows.stride == rows.stride &&
           (uintptr_t)segment->rows.base + segment->rows.n * (size_t)rows.stride ==
               (uintptr_t)rows.base;
}

static int add_segment(struct pbs_digests *set, struct pbs_rows rows)
{
    uint64_t first_row = rows_in_use(set);
    if (rows.n > PBS_DIGESTS_MAX_ROWS - first_row)
        return PBS_E_FULL;
    if (set->n_segments > 0 && continues(&set->segments[set->n_segments - 1], rows)) {
        set->segments[set->n_segments - 1].rows.n += rows.n;
        return PBS_OK;
    }
    if (set->n_segments == set->room_for_segments) {
        size_t room = set->room_for_segments == 0 ? 4 : set->room_for_segments * 2;
        if (room > SIZE_MAX / sizeof *set->segments)
            return PBS_E_NOMEM;
        struct segment *segments = realloc(set->segments, room * sizeof *segments);
        if (segments == NULL)
            return PBS_E_NOMEM;
        set->segments = segments;
        set->room_for_segments = room;
    }
    set->segments[set->n_segments++] = (struct segment){first_row, rows};
    return PBS_OK;
}

/*
 * Before a block of n rows: room for all of it, even if in the end none of it is new. When the table
 * grows, it makes room for the rest of the batch at once, taken to be as new as what was seen of it:
 * growing step by step cost more than all else (benchmarks/test_bench_native.py).
 */
static int reserve(struct pbs_digests *set, size_t n, size_t seen, size_t added, size_t left)
{
    if (n <= set->limit - set->count)
        return PBS_OK;
    uint64_t grown = (uint64_t)set->limit + set->limit / 2;
    uint64_t needed = (uint64_t)set->count + n;
    if (seen > 0) {
        uint64_t expected = set->count + (uint64_t)((double)left * (double)added / (double)seen);
        needed = expected > needed ? expected : needed;
    }
    return resize(set, grown > needed ? grown : needed);
}

/* Take back the last n rows, to which no slot refers. */
static void drop_rows(struct pbs_digests *set, size_t n)
{
    struct segment *last = &set->segments[set->n_segments - 1];
    last->rows.n -= n;
    if (last->rows.n == 0)
        set->n_segments--;
}

static bool is_within(struct pbs_batch batch)
{
    for (size_t i = 0; batch.at != NULL && i < batch.n; i++)
        if (batch.at[i] >= batch.rows.n)
            return false;
    return true;
}

/* The number of the batch's first row: a new segment's, or the last one's if that has its very rows. */
static int number_rows(struct pbs_digests *set, struct pbs_batch batch, uint64_t *first_row,
                       bool *is_segment_new)
{
    const struct segment *last = set->n_segments > 0 ? &set->segments[set->n_segments - 1] : NULL;
    *is_segment_new = last == NULL || !same(last->rows, batch.rows);
    *first_row = *is_segment_new ? rows_in_use(set) : last->first_row;
    return *is_segment_new ? add_segment(set, batch.rows) : PBS_OK;
}

int pbs_digests_insert(struct pbs_digests *set, struct pbs_batch batch, uint8_t *out_new,
                       uint32_t *out_pos, size_t *out_added)
{
    struct probe block[BLOCK];
    size_t added = 0;
    size_t passed = 0;
    uint64_t first_row = 0;
    bool is_segment_new = false;
    if (!is_within(batch))
        return PBS_E_INVALID;
    int status = batch.n == 0 ? PBS_OK : number_rows(set, batch, &first_row, &is_segment_new);
    if (status != PBS_OK)
        return status;
    for (size_t start = 0; start < batch.n; start += BLOCK) {
        size_t n = block_size(batch.n, start);
        status = reserve(set, n, start, added, batch.n - start);
        if (status != PBS_OK)
            return status;
        prepare(set, batch, start, n, block);
        for (size_t i = 0; i < n; i++) {
            size_t at = find(set, &block[i]);
            bool is_new = set->slots[at] == 0;
            if (is_new) {
                set->slots[at] = (uint64_t)block[i].tag << 32 | (first_row + block[i].row + 1);
                set->count++;
                if (out_pos != NULL)
                    out_pos[added] = (uint32_t)(start + i);
                added++;
            }
            if (out_new != NULL)
                out_new[start + i] = is_new;
        }
        pass(set, batch, start + n, &passed);
    }
    if (added == 0 && is_segment_new)
        drop_rows(set, batch.rows.n);
    *out_added = added;
    return PBS_OK;
}

int pbs_digests_contains(struct pbs_digests *set, struct pbs_batch batch, uint8_t *out_found)
{
    struct probe block[BLOCK];
    size_t passed = 0;
    if (!is_within(batch))
        return PBS_E_INVALID;
    for (size_t start = 0; start < batch.n; start += BLOCK) {
        size_t n = block_size(batch.n, start);
        prepare(set, batch, start, n, block);
        for (size_t i = 0; i < n; i++)
            out_found[start + i] = set->slots[find(set, &block[i])] != 0;
        pass(set, batch, start + n, &passed);
    }
    return PBS_OK;
}

int pbs_digests_difference(struct pbs_digests *set, struct pbs_batch batch, uint32_t *out_pos,
                           size_t *out_n)
{
    struct probe block[BLOCK];
    size_t missing = 0;
    size_t passed = 0;
    if (!is_within(batch))
        return PBS_E_INVALID;
    if (batch.n > PBS_DIGESTS_MAX_ROWS)
        return PBS_E_FULL;
    for (size_t start = 0; start < batch.n; start += BLOCK) {
        size_t n = block_size(batch.n, start);
        prepare(set, batch, start, n, block);
        for (size_t i = 0; i < n; i++)
            if (set->slots[find(set, &block[i])] == 0)
                out_pos[missing++] = (uint32_t)(start + i);
        pass(set, batch, start + n, &passed);
    }
    *out_n = missing;
    return PBS_OK;
}
