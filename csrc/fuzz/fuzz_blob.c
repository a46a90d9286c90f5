/*
 * Blobs: the header, the check, and the CRC-32 of every backend, whole and in pieces, against the
 * definition bit by bit.
 *
 * Input: how the blob is made (kind 0 to 4, of which 4 is what the bytes say; whether the CRC is
 * mended), where to cut it for the CRC in pieces, and its bytes.
 */
#include "fuzz.h"
#include "pbs_blob.h"

static const uint8_t magics[4][8] = {
    {66, 171, 56, 7, 190, 131, 112, 161},
    {49, 185, 88, 66, 111, 182, 163, 127},
    {123, 103, 133, 190, 34, 45, 76, 240},
    {230, 89, 27, 191, 11, 191, 216, 11},
};

static uint32_t crc_by_definition(const uint8_t *bytes, size_t len)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void check_crc(const uint8_t *bytes, size_t len, size_t cut)
{
    size_t n;
    const struct pbs_crc32_backend *backends = pbs_crc32_backends(&n);
    uint32_t expected = crc_by_definition(bytes, len);
    for (size_t i = 0; i < n; i++) {
        CHECK(backends[i].update(0, bytes, len) == expected);
        uint32_t first = backends[i].update(0, bytes, cut);
        CHECK(backends[i].update(first, bytes + cut, len - cut) == expected);
    }
}

static void check_blob(const uint8_t *blob, size_t len)
{
    struct pbs_blob_header header;
    enum pbs_blob_kind kind;
    int status = pbs_blob_read_header(blob, len, &header);
    int with_crc = pbs_blob_check(blob, len, 1, &kind);
    CHECK(pbs_blob_check(blob, len, 0, &kind) == status);
    CHECK(status == PBS_OK || status == PBS_E_TRUNCATED || status == PBS_E_MAGIC ||
          status == PBS_E_LENGTH);
    CHECK((status == PBS_E_TRUNCATED) == (len < 12));
    if (status) {
        CHECK(with_crc == status);
        return;
    }
    CHECK(memcmp(blob, magics[header.kind - 1], 8) == 0 && header.kind == kind);
    CHECK(header.encrypted == (kind >= PBS_BLOB_ENCRYPTED));
    CHECK(header.size == (header.encrypted ? 44 : 12) && header.size <= len);
    CHECK(header.crc == pbs_load_le32(blob + 8));
    int is_whole = crc_by_definition(blob + header.size, len - header.size) == header.crc;
    CHECK(with_crc == (is_whole ? PBS_OK : PBS_E_CRC));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint8_t how = take_u8(&in);
    size_t cut = take_u16(&in), misaligned = how >> 4;
    unsigned kind = how % 5;
    size_t len = in.left;
    uint8_t *memory = allocate(misaligned + len), *blob = memory + misaligned;
    if (len)
        memcpy(blob, in.at, len);
    if (kind < 4 && len >= 8)
        memcpy(blob, magics[kind], 8);
    size_t header = kind == 2 || kind == 3 ? 44 : 12;
    if (how & 8 && len >= header)
        pbs_store_le32(blob + 8, crc_by_definition(blob + header, len - header));
    check_crc(blob, len, len ? cut % (len + 1) : 0);
    check_blob(blob, len);
    free(memory);
    return 0;
}
