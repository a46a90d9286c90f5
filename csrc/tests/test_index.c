#include "pbs_index.h"

#include <string.h>

#include "check.h"
#include "pbs_error.h"

static const uint8_t fixed_magic[8] = {47, 127, 65, 237, 145, 253, 15, 205};
static const uint8_t dynamic_magic[8] = {28, 145, 78, 165, 25, 186, 179, 205};

/* An index file in memory; freed by the caller. */
struct file {
    uint8_t *base;
    size_t length;
};

static struct file new_file(const uint8_t *magic, size_t entry_size, size_t n)
{
    struct file file = {.length = PBS_INDEX_HEADER_SIZE + entry_size * n};
    uint64_t state = n + 1;
    file.base = allocate(file.length);
    memset(file.base, 0, PBS_INDEX_HEADER_SIZE);
    fill_random(&state, file.base + 8, 56);
    memcpy(file.base, magic, 8);
    fill_random(&state, file.base + PBS_INDEX_HEADER_SIZE, entry_size * n);
    return file;
}

static struct file new_fixed(size_t n, uint64_t size, uint64_t chunk_size)
{
    struct file file = new_file(fixed_magic, PBS_FIXED_ENTRY_SIZE, n);
    pbs_store_le64(file.base + 64, size);
    pbs_store_le64(file.base + 72, chunk_size);
    return file;
}

/* Header and, unless that is refused, all entries. */
static int parse(struct file file, struct pbs_index *out, size_t *out_pos)
{
    int status = pbs_index_parse(file.base, file.length, out);
    return status == PBS_OK ? pbs_index_check(out, 0, out->n, out_pos) : status;
}

static void set_end(struct file file, size_t pos, uint64_t end)
{
    pbs_store_le64(file.base + PBS_INDEX_HEADER_SIZE + pos * PBS_DYNAMIC_ENTRY_SIZE, end);
}

static struct file new_dynamic(size_t n)
{
    struct file file = new_file(dynamic_magic, PBS_DYNAMIC_ENTRY_SIZE, n);
    for (size_t pos = 0; pos < n; pos++)
        set_end(file, pos, 1000 * (pos + 1) + pos);
    return file;
}

/* Parse, free the file, and check that a failure leaves the outputs alone. */
static int status_of(struct file file)
{
    struct pbs_index index, untouched;
    size_t pos = 12345;
    memset(&untouched, 0x5a, sizeof untouched);
    index = untouched;
    int status = pbs_index_parse(file.base, file.length, &index);
    CHECK(status == PBS_OK || memcmp(&index, &untouched, sizeof index) == 0);
    if (status == PBS_OK)
        status = pbs_index_check(&index, 0, index.n, &pos);
    CHECK(status == PBS_E_ORDER || pos == 12345);
    free(file.base);
    return status;
}

static void fixed_is_described(void)
{
    struct file file = new_fixed(3, 2 * 4096 + 1, 4096);
    struct pbs_index index;
    size_t pos;
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK(index.kind == PBS_INDEX_FIXED && index.n == 3 && index.stride == 32);
    CHECK(index.size == 2 * 4096 + 1 && index.chunk_size == 4096);
    CHECK(memcmp(index.uuid, file.base + 8, 16) == 0);
    CHECK(index.ctime == (int64_t)pbs_load_le64(file.base + 24));
    CHECK(memcmp(index.csum, file.base + 32, 32) == 0);
    CHECK(pbs_index_digest(&index, 2) == file.base + 4096 + 64);
    CHECK(pbs_index_start_offset(&index, 0) == 0 && pbs_index_end_offset(&index, 0) == 4096);
    CHECK(pbs_index_start_offset(&index, 2) == 8192 && pbs_index_end_offset(&index, 2) == 8193);
    free(file.base);
}

static void dynamic_is_described(void)
{
    struct file file = new_dynamic(3);
    struct pbs_index index;
    size_t pos;
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK(index.kind == PBS_INDEX_DYNAMIC && index.n == 3 && index.stride == 40);
    CHECK(index.size == 3002 && index.chunk_size == 0);
    CHECK(pbs_index_digest(&index, 1) == file.base + 4096 + 48);
    CHECK(pbs_index_start_offset(&index, 0) == 0 && pbs_index_end_offset(&index, 0) == 1000);
    CHECK(pbs_index_start_offset(&index, 2) == 2001 && pbs_index_end_offset(&index, 2) == 3002);
    free(file.base);
}

static void no_entries_is_for_dynamic_only(void)
{
    struct file file = new_dynamic(0);
    struct pbs_index index;
    size_t pos;
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK(index.n == 0 && index.size == 0);
    free(file.base);
    CHECK_EQUAL(status_of(new_fixed(0, 0, 4096)), PBS_E_EMPTY);
    CHECK_EQUAL(status_of(new_fixed(1, 0, 4096)), PBS_E_EMPTY);
}

static void chunk_size_is_a_power_of_two(void)
{
    CHECK_EQUAL(status_of(new_fixed(1, 1, 0)), PBS_E_CHUNK_SIZE);
    CHECK_EQUAL(status_of(new_fixed(1, 1, 3)), PBS_E_CHUNK_SIZE);
    CHECK_EQUAL(status_of(new_fixed(1, 1, UINT64_MAX)), PBS_E_CHUNK_SIZE);
    CHECK_EQUAL(status_of(new_fixed(1, 1, 1)), PBS_OK);
    CHECK_EQUAL(status_of(new_fixed(1, 1, UINT64_C(1) << 63)), PBS_OK);
}

static void sizes_near_the_end_of_64_bits_do_not_overflow(void)
{
    struct file file = new_fixed(2, UINT64_MAX, UINT64_C(1) << 63);
    struct pbs_index index;
    size_t pos;
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK(pbs_index_end_offset(&index, 0) == UINT64_C(1) << 63);
    CHECK(pbs_index_end_offset(&index, 1) == UINT64_MAX);
    free(file.base);
    CHECK_EQUAL(status_of(new_fixed(1, UINT64_MAX, 1)), PBS_E_LENGTH);
    CHECK_EQUAL(status_of(new_fixed(0, UINT64_MAX, 1)), PBS_E_LENGTH);
    CHECK_EQUAL(status_of(new_fixed(0, UINT64_MAX, UINT64_C(1) << 63)), PBS_E_LENGTH);
}

static void length_fits_the_entries_exactly(void)
{
    CHECK_EQUAL(status_of(new_fixed(2, 4096, 4096)), PBS_E_LENGTH);
    CHECK_EQUAL(status_of(new_fixed(1, 4097, 4096)), PBS_E_LENGTH);
    for (size_t length = 0; length < 4096 + 96; length++) {
        struct file fixed = new_fixed(3, 3 * 4096, 4096);
        struct file dynamic = new_dynamic(3);
        /* Copied, so that the sanitizer knows where the file ends. */
        struct file cut_fixed = {allocate(length), length};
        struct file cut_dynamic = {allocate(length), length};
        memcpy(cut_fixed.base, fixed.base, length);
        memcpy(cut_dynamic.base, dynamic.base, length);
        free(fixed.base);
        free(dynamic.base);
        int below = length < PBS_INDEX_HEADER_SIZE ? PBS_E_TRUNCATED : PBS_E_LENGTH;
        CHECK_EQUAL(status_of(cut_fixed), below);
        int whole = length >= PBS_INDEX_HEADER_SIZE && (length - PBS_INDEX_HEADER_SIZE) % 40 == 0;
        CHECK_EQUAL(status_of(cut_dynamic), whole ? PBS_OK : below);
    }
}

static void first_end_that_does_not_increase_is_named(void)
{
    const uint64_t bad[][4] = {
        {0, 1, 2, 3}, {5, 5, 6, 7}, {5, 4, 6, 7}, {5, 6, 6, 7}, {5, 6, 7, 0}, {UINT64_MAX, 1, 2, 3},
    };
    const size_t bad_pos[] = {0, 1, 1, 2, 3, 1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct file file = new_dynamic(4);
        struct pbs_index index;
        size_t pos = 99;
        for (size_t k = 0; k < 4; k++)
            set_end(file, k, bad[i][k]);
        CHECK_EQUAL(parse(file, &index, &pos), PBS_E_ORDER);
        CHECK_EQUAL(pos, bad_pos[i]);
        free(file.base);
    }
}

static void parts_are_checked_like_the_whole(void)
{
    for (size_t bad = 0; bad <= 7; bad++) {
        struct file file = new_dynamic(7);
        struct pbs_index index;
        size_t pos = 99;
        int status = PBS_OK;
        if (bad < 7)
            set_end(file, bad, 0);
        CHECK_EQUAL(pbs_index_parse(file.base, file.length, &index), PBS_OK);
        for (size_t first = 0; first < 7 && status == PBS_OK; first += 2)
            status = pbs_index_check(&index, first, first + 2 > 7 ? 1 : 2, &pos);
        CHECK_EQUAL(status, bad < 7 ? PBS_E_ORDER : PBS_OK);
        CHECK_EQUAL(pos, bad < 7 ? bad : 99);
        free(file.base);
    }
}

static void the_largest_chunk_is_known(void)
{
    const uint64_t ends[] = {10, 11, 511, 512};
    struct file file = new_dynamic(4);
    struct pbs_index index;
    size_t pos;
    for (size_t i = 0; i < 4; i++)
        set_end(file, i, ends[i]);
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK_EQUAL(index.largest, 500);
    free(file.base);
    file = new_fixed(3, 2 * 4096 + 1, 4096);
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK_EQUAL(index.largest, 4096);
    free(file.base);
    file = new_fixed(1, 77, 4096);
    CHECK_EQUAL(parse(file, &index, &pos), PBS_OK);
    CHECK_EQUAL(index.largest, 77);
    free(file.base);
}

static void magic_decides(void)
{
    struct file file = new_dynamic(1);
    file.base[7] ^= 1;
    CHECK_EQUAL(status_of(file), PBS_E_MAGIC);
    file = new_fixed(1, 1, 1);
    memset(file.base, 0, 8);
    CHECK_EQUAL(status_of(file), PBS_E_MAGIC);
}

/* What is accepted must be readable to its last byte; the sanitizers watch. */
static void read_everything(const struct pbs_index *index)
{
    uint64_t end = 0;
    unsigned sum = 0;
    for (size_t pos = 0; pos < index->n; pos++) {
        CHECK(pbs_index_start_offset(index, pos) == end);
        CHECK(pbs_index_end_offset(index, pos) > end);
        end = pbs_index_end_offset(index, pos);
        for (size_t i = 0; i < PBS_DIGEST_SIZE; i++)
            sum += pbs_index_digest(index, pos)[i];
    }
    CHECK(end == index->size && sum <= 255u * 32 * index->n);
}

static void mutations_are_accepted_or_refused_never_misread(void)
{
    uint64_t state = 20261122;
    int accepted = 0;
    for (int round = 0; round < 200000; round++) {
        size_t n = next_random(&state) % 4;
        struct file file = (round & 1) != 0 ? new_dynamic(n) : new_fixed(n, n * 64, 64);
        size_t changes = 1 + next_random(&state) % 3;
        for (size_t i = 0; i < changes; i++) {
            /* Half of them where it matters: the fields of the header and the entries. */
            size_t at = (next_random(&state) & 1) != 0 ? next_random(&state) % 80
                                                       : 4080 + next_random(&state) % 136;
            if (at < file.length)
                file.base[at] ^= (uint8_t)(1u << next_random(&state) % 8);
        }
        struct pbs_index index;
        size_t pos;
        if (parse(file, &index, &pos) == PBS_OK) {
            read_everything(&index);
            accepted++;
        }
        free(file.base);
    }
    CHECK(accepted > 1000 && accepted < 199000);
}

int main(void)
{
    RUN(fixed_is_described);
    RUN(dynamic_is_described);
    RUN(no_entries_is_for_dynamic_only);
    RUN(chunk_size_is_a_power_of_two);
    RUN(sizes_near_the_end_of_64_bits_do_not_overflow);
    RUN(length_fits_the_entries_exactly);
    RUN(first_end_that_does_not_increase_is_named);
    RUN(parts_are_checked_like_the_whole);
    RUN(the_largest_chunk_is_known);
    RUN(magic_decides);
    RUN(mutations_are_accepted_or_refused_never_misread);
    return 0;
}
