/*
 * HPACK: header blocks of one connection, one after the other, and what we encode ourselves.
 *
 * Input: blocks, each behind its length in two bytes. Where the first byte of all is odd, the rest is
 * encoded instead, and must decode to what it was.
 */
#include "fuzz.h"
#include "pbs_hpack.h"

struct seen {
    size_t n;
    const uint8_t *expected;
    size_t expected_len;
};

static void on_header(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                      size_t value_len)
{
    struct seen *seen = context;
    CHECK(name_len <= PBS_HPACK_STRING_MAX && value_len <= PBS_HPACK_STRING_MAX);
    touch(name, name_len);
    touch(value, value_len);
    seen->n++;
    if (seen->expected)
        CHECK(value_len == seen->expected_len && memcmp(value, seen->expected, value_len) == 0);
}

static void decode_blocks(struct pbs_hpack *decoder, struct input *in)
{
    int status = PBS_OK;
    while (!status && in->left) {
        struct seen seen = {0};
        size_t wanted = take_u16(in), len;
        const uint8_t *bytes = take_bytes(in, wanted, &len);
        uint8_t *block = exact_copy(bytes, len);
        status = pbs_hpack_decode(decoder, block, len, on_header, &seen);
        CHECK(status == PBS_OK || status == PBS_E_PROTOCOL || status == PBS_E_TOO_LARGE);
        CHECK(seen.n <= len);
        free(block);
    }
}

static void there_and_back(struct pbs_hpack *decoder, struct input *in)
{
    static const unsigned rows[] = {PBS_HPACK_AUTHORITY, PBS_HPACK_METHOD_GET, PBS_HPACK_PATH,
                                    PBS_HPACK_CONTENT_TYPE};
    while (in->left) {
        unsigned row = rows[take_u8(in) % 4];
        size_t wanted = take_u16(in), len;
        const uint8_t *value = take_bytes(in, wanted, &len);
        size_t size = pbs_hpack_literal_size(row, len);
        uint8_t *block = allocate(size);
        struct seen seen = {.expected = value, .expected_len = len};
        CHECK(pbs_hpack_literal(block, row, value, len) == size);
        int status = pbs_hpack_decode(decoder, block, size, on_header, &seen);
        CHECK(len > PBS_HPACK_STRING_MAX ? status == PBS_E_TOO_LARGE : !status && seen.n == 1);
        free(block);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct pbs_hpack *decoder;
    CHECK(pbs_hpack_new(&decoder) == PBS_OK);
    if (take_u8(&in) & 1)
        there_and_back(decoder, &in);
    else
        decode_blocks(decoder, &in);
    pbs_hpack_free(decoder);
    return 0;
}
