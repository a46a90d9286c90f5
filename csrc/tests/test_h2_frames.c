#include "pbs_h2_frames.h"

#include <string.h>

#include "check.h"
#include "pbs_error.h"

static uint64_t seed = 20261123;

static void frames_come_whole_of_any_pieces(void)
{
    enum { FRAMES = 40 };
    uint32_t sizes[FRAMES];
    size_t len = 0;

    for (int i = 0; i < FRAMES; i++) {
        sizes[i] = (uint32_t)(next_random(&seed) % (i % 4 ? 30 : PBS_H2_LEAST_FRAME + 1));
        len += PBS_FRAME_HEADER + sizes[i];
    }
    uint8_t *bytes = allocate(len);
    fill_random(&seed, bytes, len);
    size_t at = 0;
    for (int i = 0; i < FRAMES; at += PBS_FRAME_HEADER + sizes[i], i++)
        pbs_h2_put_frame_header(bytes + at, sizes[i], PBS_H2_PING, (unsigned)i, (uint32_t)i);

    for (int round = 0; round < 300; round++) {
        struct pbs_h2_reader reader = {0};
        int next = 0;
        size_t given = 0;
        at = 0;
        while (given < len) {
            size_t n = 1 + next_random(&seed) % (round % 2 ? 12 : 20000);
            if (n > len - given)
                n = len - given;
            uint8_t *piece = allocate(n); /* so that the sanitizer sees a read of other pieces */
            memcpy(piece, bytes + given, n);
            given += n;
            pbs_h2_reader_give(&reader, piece, n);
            for (;;) {
                struct pbs_h2_frame frame;
                int found;
                CHECK_EQUAL(pbs_h2_reader_next(&reader, &frame, &found), PBS_OK);
                if (!found)
                    break;
                CHECK_EQUAL(frame.len, sizes[next]);
                CHECK_EQUAL(frame.type, PBS_H2_PING);
                CHECK_EQUAL(frame.flags, next);
                CHECK_EQUAL(frame.stream, next);
                CHECK(memcmp(frame.payload, bytes + at + PBS_FRAME_HEADER, frame.len) == 0);
                at += PBS_FRAME_HEADER + frame.len;
                CHECK(at <= given);
                next++;
            }
            free(piece);
        }
        CHECK_EQUAL(next, FRAMES);
        pbs_h2_reader_free(&reader);
    }
    free(bytes);
}

static void a_frame_too_long_is_seen_with_its_header(void)
{
    for (size_t first = 0; first <= PBS_FRAME_HEADER; first++) {
        struct pbs_h2_reader reader = {0};
        struct pbs_h2_frame frame;
        uint8_t header[PBS_FRAME_HEADER];
        int found;

        pbs_h2_put_frame_header(header, PBS_H2_LEAST_FRAME + 1, PBS_H2_DATA, 0, 1);
        pbs_h2_reader_give(&reader, header, first);
        if (first < PBS_FRAME_HEADER) {
            CHECK_EQUAL(pbs_h2_reader_next(&reader, &frame, &found), PBS_OK);
            CHECK_EQUAL(found, 0);
            pbs_h2_reader_give(&reader, header + first, PBS_FRAME_HEADER - first);
        }
        CHECK_EQUAL(pbs_h2_reader_next(&reader, &frame, &found), PBS_E_PROTOCOL);
        pbs_h2_reader_free(&reader);
    }
}

static void the_reserved_bit_of_a_stream_id_does_not_count(void)
{
    struct pbs_h2_reader reader = {0};
    struct pbs_h2_frame frame;
    uint8_t header[PBS_FRAME_HEADER];
    int found;

    pbs_h2_put_frame_header(header, 0, PBS_H2_DATA, 0, 0x80000005u);
    pbs_h2_reader_give(&reader, header, sizeof header);
    CHECK_EQUAL(pbs_h2_reader_next(&reader, &frame, &found), PBS_OK);
    CHECK_EQUAL(found, 1);
    CHECK_EQUAL(frame.stream, 5);
    pbs_h2_reader_free(&reader);
}

int main(void)
{
    RUN(frames_come_whole_of_any_pieces);
    RUN(a_frame_too_long_is_seen_with_its_header);
    RUN(the_reserved_bit_of_a_stream_id_does_not_count);
    return 0;
}
