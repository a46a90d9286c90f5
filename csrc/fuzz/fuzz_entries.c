/*
 * Entry lists: what differs between two indexes, and the JSON of entries, against naive versions of
 * both. Indexes may be ones that nobody has checked (a file that was cut while it was read).
 *
 * Input: kind, counts, positions, sizes and digests.
 */
#include "fuzz.h"
#include "pbs_entries.h"

enum { MOST = 24 };

static struct pbs_index make_index(struct input *in, unsigned how, size_t n, uint8_t *rows)
{
    struct pbs_index index = {
        .kind = how & 1 ? PBS_INDEX_FIXED : PBS_INDEX_DYNAMIC,
        .stride = how & 1 ? 32 : 40,
        .digests = how & 1 ? rows : rows + 8,
        .n = n,
        .chunk_size = how & 1 ? (uint64_t)1 << take_u8(in) % 60 : 0,
    };
    memset(rows, 0, 40 * MOST);
    for (size_t i = 0; i < n; i++) { /* few values each, so that some are the same */
        uint8_t *row = rows + i * index.stride;
        if (!(how & 1))
            pbs_store_le64(row, how & 2 ? take_u64(in) : take_u16(in));
        row[how & 1 ? 0 : 8] = take_u8(in);
    }
    uint64_t cut = take_u32(in);
    if (how & 1 && n)
        index.size = n * index.chunk_size - cut % index.chunk_size;
    return index;
}

static void check_changed(const struct pbs_index *index, const struct pbs_index *previous,
                          size_t first, size_t n)
{
    uint32_t *out = allocate(n <= MOST ? n * sizeof *out : 0);
    size_t out_n = 0, expected = 0;
    int status = pbs_entries_changed(index, previous, first, n, out, &out_n);
    int is_valid = first <= index->n && n <= index->n - first && index->n == previous->n &&
                   index->kind == PBS_INDEX_FIXED && previous->kind == PBS_INDEX_FIXED &&
                   index->chunk_size == previous->chunk_size;
    CHECK(status == (is_valid ? PBS_OK : PBS_E_INVALID));
    for (size_t i = first; is_valid && i < first + n; i++)
        if (memcmp(pbs_index_digest(index, i), pbs_index_digest(previous, i), 32) != 0 ||
            pbs_index_chunk_bytes(index, i) != pbs_index_chunk_bytes(previous, i))
            CHECK(expected < out_n && out[expected++] == i);
    CHECK(expected == out_n);
    free(out);
}

/* The JSON of the first n of these entries; returns its length. */
static size_t naive_body(const struct pbs_index *index, const uint32_t *at, size_t first, size_t n,
                         uint32_t writer_id, char *out)
{
    char *end = out + sprintf(out, "{\"digest-list\":[");
    for (size_t i = 0; i < n; i++) {
        const uint8_t *digest = pbs_index_digest(index, at ? at[i] : first + i);
        end += sprintf(end, "%s\"", i ? "," : "");
        for (int k = 0; k < 32; k++)
            end += sprintf(end, "%02x", digest[k]);
        end += sprintf(end, "\"");
    }
    end += sprintf(end, "],\"offset-list\":[");
    for (size_t i = 0; i < n; i++)
        end += sprintf(end, "%s%llu", i ? "," : "",
                       (unsigned long long)pbs_index_start_offset(index, at ? at[i] : first + i));
    end += sprintf(end, "],\"wid\":%u}", (unsigned)writer_id);
    return (size_t)(end - out);
}

static void check_body(const struct pbs_index *index, const uint32_t *at, size_t first, size_t n,
                       uint32_t writer_id, size_t limit)
{
    static char expected[MOST * PBS_ENTRY_TEXT_MAX + PBS_ENTRIES_TEXT_AROUND + 1];
    uint8_t *out = allocate(limit);
    size_t taken = 0, len = 0, within = 0;
    while (within < n && (at ? at[within] : first + within) < index->n)
        within++;
    int status = pbs_entries_body(index, at, first, n, writer_id, out, limit, &taken, &len);
    CHECK(status == PBS_OK || status == PBS_E_INVALID);
    if (!status) {
        CHECK(taken > 0 && taken <= within && len <= limit);
        CHECK(naive_body(index, at, first, taken, writer_id, expected) == len);
        CHECK(memcmp(out, expected, len) == 0);
        if (taken < within) /* one more does not fit */
            CHECK(naive_body(index, at, first, taken + 1, writer_id, expected) > limit);
    } else if (within == n) {
        CHECK(naive_body(index, at, first, 1, writer_id, expected) > limit);
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t rows[2][40 * MOST];
    struct input in = {data, size};
    unsigned how = take_u8(&in);
    size_t n = take_u8(&in) % (MOST + 1), previous_n = how & 4 ? take_u8(&in) % (MOST + 1) : n;
    size_t first = take_u8(&in) % (MOST + 2), count = 1u + take_u8(&in) % MOST;
    size_t limit = take_u16(&in) % 3000;
    uint32_t writer_id = take_u32(&in), positions[MOST];
    struct pbs_index index = make_index(&in, how, n, rows[0]);
    struct pbs_index previous = make_index(&in, how & 8 ? how >> 4 : how, previous_n, rows[1]);
    if (how & 0x40)
        previous.chunk_size = index.chunk_size;
    check_changed(&index, &previous, how & 0x80 ? SIZE_MAX - first : first, count - 1);
    for (size_t i = 0; i < count; i++)
        positions[i] = take_u8(&in) % (MOST + 2);
    check_body(&index, NULL, first, count, writer_id, limit);
    check_body(&index, positions, 0, count, writer_id, limit);
    return 0;
}
