#include "pbs_blob.h"

#include <string.h>

#include "check.h"
#include "pbs_bytes.h"
#include "pbs_error.h"

static const uint8_t magics[4][8] = {
    {66, 171, 56, 7, 190, 131, 112, 161},
    {49, 185, 88, 66, 111, 182, 163, 127},
    {123, 103, 133, 190, 34, 45, 76, 240},
    {230, 89, 27, 191, 11, 191, 216, 11},
};

/* One bit at a time, straight from the definition. */
static uint32_t reference(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

static void crc_has_the_known_value(void)
{
    const uint8_t digits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
    size_t n;
    const struct pbs_crc32_backend *backends = pbs_crc32_backends(&n);
    CHECK(n >= 1 && strcmp(backends[0].name, "portable") == 0);
    CHECK(strcmp(backends[n - 1].name, pbs_crc32_backend()) == 0);
    for (size_t i = 0; i < n; i++) {
        CHECK(backends[i].update(0, digits, sizeof digits) == 0xCBF43926u);
        CHECK(backends[i].update(0, digits, 0) == 0);
        CHECK(backends[i].update(0x1234u, digits, 0) == 0x1234u);
    }
}

/* Each length from an allocation that ends with it, at each alignment, with and without a past. */
static void backends_equal_the_reference(void)
{
    enum { LONGEST = 1100, OFFSETS = 16 };
    size_t n;
    const struct pbs_crc32_backend *backends = pbs_crc32_backends(&n);
    uint64_t state = 7;
    uint8_t content[LONGEST];
    fill_random(&state, content, sizeof content);
    for (size_t length = 0; length <= LONGEST; length++) {
        uint32_t fresh = reference(0, content, length);
        uint32_t going_on = reference(0xDEADBEEFu, content, length);
        for (size_t offset = 0; offset < OFFSETS; offset++) {
            uint8_t *memory = allocate(offset + length);
            memcpy(memory + offset, content, length);
            for (size_t i = 0; i < n; i++) {
                CHECK(backends[i].update(0, memory + offset, length) == fresh);
                CHECK(backends[i].update(0xDEADBEEFu, memory + offset, length) == going_on);
            }
            free(memory);
        }
    }
}

static void parts_add_up_to_the_whole(void)
{
    enum { LENGTH = 70000 };
    uint64_t state = 11;
    uint8_t *data = allocate(LENGTH);
    fill_random(&state, data, LENGTH);
    uint32_t whole = reference(0, data, LENGTH);
    CHECK(pbs_crc32(0, data, LENGTH) == whole);
    for (int round = 0; round < 200; round++) {
        size_t first = next_random(&state) % LENGTH;
        size_t second = first + next_random(&state) % (LENGTH - first);
        uint32_t crc = pbs_crc32(0, data, first);
        crc = pbs_crc32(crc, data + first, second - first);
        CHECK(pbs_crc32(crc, data + second, LENGTH - second) == whole);
    }
    free(data);
}

static size_t header_size(size_t kind)
{
    return kind < 2 ? PBS_BLOB_HEADER_SIZE : PBS_BLOB_ENCRYPTED_HEADER_SIZE;
}

/* A blob of the kind (0 to 3) with `extra` bytes behind its header. */
static uint8_t *new_blob(size_t kind, size_t extra, uint64_t *state)
{
    uint8_t *blob = allocate(header_size(kind) + extra);
    fill_random(state, blob, header_size(kind) + extra);
    memcpy(blob, magics[kind], 8);
    pbs_store_le32(blob + 8, reference(0, blob + header_size(kind), extra));
    return blob;
}

static void good_blobs_pass(void)
{
    uint64_t state = 3;
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t extra = 0; extra < 300; extra += 7) {
            uint8_t *blob = new_blob(kind, extra, &state);
            enum pbs_blob_kind found = 0;
            CHECK_EQUAL(pbs_blob_check(blob, header_size(kind) + extra, 1, &found), PBS_OK);
            CHECK_EQUAL(found, kind + 1);
            free(blob);
        }
}

static void short_blobs_are_refused(void)
{
    uint64_t state = 5;
    for (size_t kind = 0; kind < 4; kind++)
        for (size_t length = 0; length < header_size(kind); length++) {
            uint8_t *blob = new_blob(kind, 0, &state);
            uint8_t *cut = allocate(length);
            enum pbs_blob_kind found = 0;
            memcpy(cut, blob, length);
            CHECK_EQUAL(pbs_blob_check(cut, length, 1, &found),
                        length < PBS_BLOB_HEADER_SIZE ? PBS_E_TRUNCATED : PBS_E_LENGTH);
            CHECK_EQUAL(found, 0);
            free(blob);
            free(cut);
        }
}

/* CRC-32 finds every single flipped bit behind the header; the IV and tag are not covered. */
static void flipped_bits_are_found(void)
{
    uint64_t state = 9;
    for (size_t kind = 0; kind < 4; kind++) {
        size_t length = header_size(kind) + 40;
        uint8_t *blob = new_blob(kind, 40, &state);
        for (size_t bit = 0; bit < length * 8; bit++) {
            enum pbs_blob_kind found = 0;
            blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int expected = PBS_E_CRC;
            if (bit < 64)
                expected = PBS_E_MAGIC;
            else if (bit / 8 >= 12 && bit / 8 < header_size(kind))
                expected = PBS_OK;
            CHECK_EQUAL(pbs_blob_check(blob, length, 1, &found), expected);
            CHECK_EQUAL(pbs_blob_check(blob, length, 0, &found), bit < 64 ? PBS_E_MAGIC : PBS_OK);
            blob[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        free(blob);
    }
}

static void mutations_are_accepted_or_refused(void)
{
    uint64_t state = 20261122;
    for (int round = 0; round < 50000; round++) {
        size_t kind = next_random(&state) % 4;
        size_t extra = next_random(&state) % 64;
        uint8_t *blob = new_blob(kind, extra, &state);
        size_t length = next_random(&state) % (header_size(kind) + extra + 1);
        uint8_t *cut = allocate(length);
        memcpy(cut, blob, length);
        if (length > 0)
            cut[next_random(&state) % length] ^= (uint8_t)next_random(&state);
        enum pbs_blob_kind found = 0;
        int status = pbs_blob_check(cut, length, (int)(next_random(&state) & 1), &found);
        CHECK((status == PBS_OK) == (found != 0));
        CHECK(status == PBS_OK || status == PBS_E_TRUNCATED || status == PBS_E_MAGIC ||
              status == PBS_E_LENGTH || status == PBS_E_CRC);
        free(blob);
        free(cut);
    }
}

int main(void)
{
    printf("  crc32 backend: %s\n", pbs_crc32_backend());
    RUN(crc_has_the_known_value);
    RUN(backends_equal_the_reference);
    RUN(parts_add_up_to_the_whole);
    RUN(good_blobs_pass);
    RUN(short_blobs_are_refused);
    RUN(flipped_bits_are_found);
    RUN(mutations_are_accepted_or_refused);
    return 0;
}
