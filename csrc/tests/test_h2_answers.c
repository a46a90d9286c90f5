/* Answers: whole, early, too long, of downloads and in parts. */
#include "expect.h"

static void answers_come_whole(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    struct pbs_h2_answer answer;
    for (uint32_t tag = 1; tag <= 9; tag++)
        call(h2, tag, "GET", 0, PBS_H2_COLLECT, 4);
    drain(h2, &out);
    put_status(&in, END_STREAM, 17, 204);
    put_status(&in, 0, 1, 100); /* an interim one */
    put_status(&in, 0, 1, 200);
    put_frame(&in, DATA, 0, 1, "ab", 2);
    put_frame(&in, DATA, PADDED, 1, "\3c\0\0\0", 5);
    put_frame(&in, PRIORITY, 0, 1, "\0\0\0\0\0", 5);
    put_frame(&in, 0xfa, 0xff, 99, "unknown", 7);
    put_frame(&in, DATA, END_STREAM, 1, "d", 1);
    put_frame(&in, HEADERS, PADDED | WITH_PRIORITY | END_STREAM | END_HEADERS, 3,
              "\2\0\0\0\0\0\x88zz", 9);
    put_frame(&in, HEADERS, END_STREAM, 5, "\x08", 1);
    put_frame(&in, CONTINUATION, 0, 5, "\3", 1);
    put_frame(&in, CONTINUATION, END_HEADERS, 5, "503", 3);
    put_status(&in, 0, 7, 400);
    put_frame(&in, DATA, 0, 7, "why", 3);
    put_frame(&in, HEADERS, END_STREAM | END_HEADERS, 7, "\x00\1x\1y", 5); /* trailers */
    put_status(&in, 0, 9, 200);
    put_frame(&in, DATA, 0, 9, "longer", 6);
    put_u32(&in, RESET, 11, 2);
    put_status(&in, 0, 13, 500);
    put_u32(&in, RESET, 13, 0);
    put_status(&in, 0, 15, 200);
    put_u32(&in, RESET, 15, 0);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 9, 204, "");
    expect_answer(h2, 1, 200, "abcd");
    expect_answer(h2, 2, 200, "");
    expect_answer(h2, 3, 503, "");
    expect_answer(h2, 4, 400, "why");
    answer = next_answer(h2);
    CHECK(answer.tag == 5 && answer.body_too_large && answer.body_len == 4);
    free(answer.body);
    answer = next_answer(h2);
    CHECK(answer.tag == 6 && answer.status == 0 && answer.reset_code == 2);
    free(answer.body);
    expect_answer(h2, 7, 500, "");
    answer = next_answer(h2);
    CHECK(answer.tag == 8 && answer.status == 0 && answer.reset_code == UINT32_MAX);
    free(answer.body);
    CHECK(!pbs_h2_next_answer(h2, &answer));
    EXPECT_OUTPUT(h2, "\0\0\4\3\0\0\0\0\x09\0\0\0\x08"); /* the one too long is cancelled */
    CHECK_EQUAL(state_of(h2).open_streams, 0);
    CHECK_EQUAL(state_of(h2).received_bytes, 4 + 3 + 4); /* what was kept of bodies */

    /* What comes late for streams that are closed is not an error. */
    put_frame(&in, DATA, END_STREAM, 9, "more", 4);
    put_u32(&in, WINDOW, 9, 4);
    put_u32(&in, RESET, 9, 8);
    put_status(&in, END_STREAM, 9, 200);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    CHECK(!pbs_h2_next_answer(h2, &answer));
    EXPECT_OUTPUT(h2, "");
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

static void only_the_status_is_wanted(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    for (uint32_t tag = 1; tag <= 3; tag++)
        call(h2, tag, "GET", 0, PBS_H2_DISCARD, 100);
    drain(h2, &out);
    put_status(&in, 0, 1, 200);
    put_status(&in, END_STREAM, 3, 200);
    put_status(&in, 0, 5, 400);
    put_frame(&in, DATA, END_STREAM, 5, "no such", 7);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 1, 200, "");
    expect_answer(h2, 2, 200, "");
    expect_answer(h2, 3, 400, "no such");
    EXPECT_OUTPUT(h2, "\0\0\4\3\0\0\0\0\1\0\0\0\x08");
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* The rest of the body stays away: RST_STREAM, and no DATA any more. */
static void an_answer_may_come_before_the_body_is_out(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    call(h2, 1, "PUT", 70000, PBS_H2_COLLECT, 10);
    drain(h2, &out);
    put_status(&in, END_STREAM, 1, 400);
    put_u32(&in, WINDOW, 0, 1000);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 1, 400, "");
    EXPECT_OUTPUT(h2, "\0\0\4\3\0\0\0\0\1\0\0\0\x08");
    /* The same when the peer resets it, without an RST_STREAM in return. */
    out.len = 0;
    call(h2, 2, "PUT", 70000, PBS_H2_COLLECT, 10);
    drain(h2, &out);
    put_u32(&in, RESET, 3, 5);
    put_u32(&in, WINDOW, 0, 65535);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    free(next_answer(h2).body);
    EXPECT_OUTPUT(h2, "");
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

static void downloads_get_their_window_back(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    uint8_t block[16384] = {1};
    uint64_t granted = 16384 + (16 << 20), sent = 0;
    const size_t total = 100 << 20;
    call(h2, 1, "GET", 0, PBS_H2_DOWNLOAD, total);
    drain(h2, &out);
    put_status(&in, 0, 1, 200);
    while (sent < total) {
        put_frame(&in, DATA, 0, 1, block, sizeof block);
        sent += sizeof block;
        CHECK(sent <= granted);
        CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
        out.len = 0;
        drain(h2, &out);
        for (size_t at = 0; at < out.len; at += 13) {
            CHECK(out.len - at >= 13 && out.bytes[at + 3] == WINDOW);
            if (pbs_load_be32(out.bytes + at + 5) == 1)
                granted += pbs_load_be32(out.bytes + at + 9);
        }
    }
    put_frame(&in, DATA, END_STREAM, 1, "", 0);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK(answer.status == 200 && answer.body_len == total && !answer.body_too_large);
    free(answer.body);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* Why a download is refused is told in a line, however long the file may be. */
static void of_errors_the_beginning_is_kept(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    uint8_t text[16384] = {'n', 'o'};
    call(h2, 1, "GET", 0, PBS_H2_DOWNLOAD, 100 << 20);
    drain(h2, &out);
    put_status(&in, 0, 1, 400);
    for (int i = 0; i < 5; i++)
        put_frame(&in, DATA, 0, 1, text, sizeof text);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK(answer.status == 400 && answer.body_too_large && answer.body_len == 4 * sizeof text);
    free(answer.body);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* A download in parts: what is wanted of it in all is bounded, errors come whole. */
static void downloads_come_in_parts(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    for (uint32_t tag = 1; tag <= 3; tag++) {
        struct pbs_h2_call wanted = {.method = "GET",
                                     .authority = AUTHORITY,
                                     .path = "/p",
                                     .mode = PBS_H2_DOWNLOAD,
                                     .max_body = 10,
                                     .part_size = 4,
                                     .tag = tag};
        submit(h2, &wanted, 0);
    }
    drain(h2, &out);

    put_status(&in, 0, 1, 200);
    put_frame(&in, DATA, 0, 1, "abc", 3);
    put_frame(&in, DATA, 0, 1, "def", 3);
    put_frame(&in, DATA, 0, 1, "ghij", 4);
    put_frame(&in, DATA, END_STREAM, 1, "", 0);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_part(h2, 1, "abcdef");
    expect_part(h2, 1, "ghij");
    expect_answer(h2, 1, 200, "");

    put_status(&in, 0, 3, 200);
    put_frame(&in, DATA, 0, 3, "abcdefgh", 8);
    put_frame(&in, DATA, 0, 3, "ijk", 3); /* one more than is wanted */
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_part(h2, 2, "abcdefgh");
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK(answer.tag == 2 && answer.body_too_large && !answer.is_part && answer.body_len == 2);
    free(answer.body);

    put_status(&in, 0, 5, 404);
    put_frame(&in, DATA, 0, 5, "missing", 7);
    put_frame(&in, DATA, END_STREAM, 5, ".", 1);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 3, 404, "missing.");
    CHECK_EQUAL(state_of(h2).received_bytes, 10 + 10 + 8);

    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

int main(void)
{
    RUN(answers_come_whole);
    RUN(only_the_status_is_wanted);
    RUN(an_answer_may_come_before_the_body_is_out);
    RUN(downloads_get_their_window_back);
    RUN(of_errors_the_beginning_is_kept);
    RUN(downloads_come_in_parts);
    return 0;
}
