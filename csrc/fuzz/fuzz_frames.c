/*
 * The reader of HTTP/2 frames: bytes in any pieces give the frames that a naive parser finds in the
 * whole.
 *
 * Input: a seed for the pieces' lengths; then the bytes.
 */
#include "fuzz.h"
#include "pbs_h2_frames.h"

/* The next frame of the whole, or 0. */
static int naive(const uint8_t *all, size_t len, size_t *at, struct pbs_h2_frame *out)
{
    if (len - *at < 9)
        return 0;
    const uint8_t *header = all + *at;
    size_t size = (size_t)header[0] << 16 | (size_t)header[1] << 8 | header[2];
    if (len - *at - 9 < size)
        return 0;
    *out = (struct pbs_h2_frame){
        .len = (uint32_t)size,
        .type = header[3],
        .flags = header[4],
        .stream = (header[5] & 0x7fu) << 24 | (uint32_t)header[6] << 16 | (uint32_t)header[7] << 8 |
                  header[8],
        .payload = header + 9,
    };
    *at += 9 + size;
    return 1;
}

static int too_long(const uint8_t *all, size_t len, size_t at)
{
    return len - at >= 9 &&
           ((size_t)all[at] << 16 | (size_t)all[at + 1] << 8 | all[at + 2]) > 16384;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct pbs_h2_reader reader = {0};
    uint32_t seed = take_u16(&in) | 1u << 16;
    const uint8_t *all = in.at;
    size_t len = in.left, given = 0, at = 0;
    int status = PBS_OK;

    while (!status && given < len) {
        seed = seed * 1103515245u + 12345u;
        size_t piece = (seed >> 16) % ((seed >> 30) ? 20 : 600);
        piece = piece < len - given ? piece : len - given;
        uint8_t *exact = exact_copy(all + given, piece);
        given += piece;
        pbs_h2_reader_give(&reader, exact, piece);
        for (;;) {
            struct pbs_h2_frame frame, expected;
            int found;
            status = pbs_h2_reader_next(&reader, &frame, &found);
            if (status || !found)
                break;
            CHECK(!too_long(all, given, at) && naive(all, given, &at, &expected));
            CHECK(frame.len == expected.len && frame.type == expected.type);
            CHECK(frame.flags == expected.flags && frame.stream == expected.stream);
            CHECK(memcmp(frame.payload, expected.payload, frame.len) == 0);
        }
        free(exact);
        CHECK(status == PBS_OK || status == PBS_E_PROTOCOL);
        CHECK((status == PBS_E_PROTOCOL) == too_long(all, given, at));
        struct pbs_h2_frame missed;
        CHECK(status || !naive(all, given, &at, &missed));
    }
    pbs_h2_reader_free(&reader);
    return 0;
}
