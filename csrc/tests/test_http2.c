#include "wire.h"

static void drain(struct pbs_h2 *h2, struct wire *out)
{
    const uint8_t *bytes;
    size_t len;
    for (;;) {
        CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &bytes, &len), PBS_OK);
        if (len == 0)
            return;
        put(out, bytes, len);
    }
}

static void expect_output(struct pbs_h2 *h2, const void *expected, size_t len)
{
    struct wire out = {0};
    drain(h2, &out);
    if (out.len != len)
        for (size_t i = 0; i < out.len; i++)
            fprintf(stderr, "%02x%s", out.bytes[i], i % 16 == 15 ? "\n" : " ");
    CHECK(out.len == len && (len == 0 || memcmp(out.bytes, expected, len) == 0));
    free(out.bytes);
}

#define EXPECT_OUTPUT(h2, text) expect_output(h2, text, sizeof text - 1)
#define RECEIVE(h2, text) receive(h2, text, sizeof text - 1)
#define ACK_FRAME "\0\0\0\4\1\0\0\0\0"

/* A connection whose preface is out and whose peer's settings are in. */
static struct pbs_h2 *begun(void)
{
    struct pbs_h2 *h2 = new_h2(1 << 20, 1 << 20);
    struct wire out = {0};
    drain(h2, &out);
    CHECK_EQUAL(RECEIVE(h2, SETTINGS_FRAME), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME);
    free(out.bytes);
    return h2;
}

static struct pbs_h2_answer next_answer(struct pbs_h2 *h2)
{
    struct pbs_h2_answer answer;
    CHECK(pbs_h2_next_answer(h2, &answer));
    return answer;
}

static void expect_answer(struct pbs_h2 *h2, uint32_t tag, unsigned status, const char *body)
{
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK_EQUAL(answer.tag, tag);
    CHECK_EQUAL(answer.status, status);
    CHECK(!answer.is_upload && !answer.is_part && answer.body_len == strlen(body));
    CHECK(memcmp(answer.body_len ? (void *)answer.body : "", body, answer.body_len) == 0);
    free(answer.body);
}

static void expect_part(struct pbs_h2 *h2, uint32_t tag, const char *body)
{
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK(answer.tag == tag && answer.is_part && answer.status == 200);
    CHECK(answer.body_len == strlen(body) && memcmp(answer.body, body, answer.body_len) == 0);
    free(answer.body);
}

/* ---- exact bytes ---- */

#define PREFACE                                                                            \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"                                                     \
    "\0\0\x0c\4\0\0\0\0\0\0\2\0\0\0\0\0\4\0\0\x40\0" /* no push, windows of 16,384 bytes */ \
    "\0\0\4\x08\0\0\0\0\0\x7f\xff\0\0"               /* but 2^31-1 for the connection */

#define GET_BLOCK "\x82\x87\x01\3a:1\x04\2/p"
#define PUT_BLOCK "\x02\3PUT\x87\x01\3a:1\x04\2/p\x0f\x10\1t"

static void requests_are_what_they_should_be(void)
{
    struct pbs_h2 *h2 = new_h2(1 << 20, 1 << 20);
    EXPECT_OUTPUT(h2, PREFACE);
    EXPECT_OUTPUT(h2, "");
    call(h2, 1, "GET", 0, PBS_H2_COLLECT, 10);
    call(h2, 2, "PUT", 3, PBS_H2_COLLECT, 10);
    call(h2, 3, "GET", 0, PBS_H2_DOWNLOAD, 10);
    EXPECT_OUTPUT(h2, "\0\0\x0b\1\5\0\0\0\1" GET_BLOCK
                      "\0\0\x13\1\4\0\0\0\3" PUT_BLOCK "\0\0\3\0\1\0\0\0\3\2\3\4"
                      "\0\0\x0b\1\5\0\0\0\5" GET_BLOCK "\0\0\4\x08\0\0\0\0\5\1\0\0\0");
    CHECK_EQUAL(state_of(h2).open_streams, 3);
    pbs_h2_free(h2);
    pbs_h2_free(NULL);
}

static void bad_calls_and_options_are_refused(void)
{
    struct pbs_h2_message *message = NULL;
    struct pbs_h2 *h2 = NULL;
    uint8_t *body;
    char path[20000];
    struct pbs_h2_call bad = {.method = "HEAD", .authority = AUTHORITY, .path = "/"};
    CHECK_EQUAL(pbs_h2_message_new(&bad, 0, &message, &body), PBS_E_INVALID);
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    bad.method = "GET";
    bad.path = path;
    CHECK_EQUAL(pbs_h2_message_new(&bad, 0, &message, &body), PBS_E_TOO_LARGE);
    CHECK(message == NULL);
    /* The longest that is taken fits into the least frame size limit. */
    path[16384 - 64 - strlen(AUTHORITY)] = '\0';
    CHECK_EQUAL(pbs_h2_message_new(&bad, 0, &message, &body), PBS_OK);
    pbs_h2_message_free(message);
    CHECK_EQUAL(pbs_h2_new(&(struct pbs_h2_options){0, 1}, &h2), PBS_E_INVALID);
    CHECK_EQUAL(pbs_h2_new(&(struct pbs_h2_options){1, 0}, &h2), PBS_E_INVALID);
    CHECK(h2 == NULL);
}

/* A body in frames of a byte, and one over windows of 0, 1 and many bytes, of both kinds. */
static void bodies_keep_to_windows_and_frames(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0};
    put_setting(&in, WINDOW_SETTING, 0);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME);
    call(h2, 7, "PUT", 5, PBS_H2_COLLECT, 10);
    EXPECT_OUTPUT(h2, "\0\0\x13\1\4\0\0\0\1" PUT_BLOCK);
    put_u32(&in, WINDOW, 1, 1);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, "\0\0\1\0\0\0\0\0\1\7");
    put_setting(&in, WINDOW_SETTING, 2); /* the window is 2 - 1 now */
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME "\0\0\2\0\0\0\0\0\1\x08\x09");
    put_setting(&in, WINDOW_SETTING, 1); /* -1 */
    put_u32(&in, WINDOW, 1, 1);          /* 0 */
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME);
    put_u32(&in, WINDOW, 1, 100);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, "\0\0\2\0\1\0\0\0\1\x0a\x0b");
    CHECK_EQUAL(state_of(h2).sent_bytes, 5);
    CHECK_EQUAL(state_of(h2).send_window, 65535 - 5);
    pbs_h2_free(h2);

    h2 = new_h2(1, 1);
    EXPECT_OUTPUT(h2, PREFACE);
    call(h2, 7, "PUT", 3, PBS_H2_COLLECT, 10);
    EXPECT_OUTPUT(h2, "\0\0\x13\1\4\0\0\0\1" PUT_BLOCK "\0\0\1\0\0\0\0\0\1\7"
                      "\0\0\1\0\0\0\0\0\1\x08" "\0\0\1\0\1\0\0\0\1\x09");
    pbs_h2_free(h2);
    free(in.bytes);
}

/* ---- answers ---- */

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

    /* What comes late for streams that are closed is no error. */
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

static void a_goaway_leaves_later_streams_out(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    for (uint32_t tag = 1; tag <= 4; tag++)
        call(h2, tag, "PUT", 70000, PBS_H2_COLLECT, 10);
    drain(h2, &out);
    put_frame(&in, GOAWAY, 0, 0, "\x7f\xff\xff\xff\0\0\0\0", 8); /* as a warning */
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    CHECK_EQUAL(state_of(h2).open_streams, 4);
    put_frame(&in, GOAWAY, 0, 0, "\0\0\0\3\0\0\0\0bye", 11);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    CHECK_EQUAL(state_of(h2).open_streams, 2);
    CHECK(state_of(h2).going_away);
    for (uint32_t tag = 4; tag >= 3; tag--) {
        struct pbs_h2_answer answer = next_answer(h2);
        CHECK(answer.tag == tag && answer.status == 0 && answer.reset_code == 7);
        free(answer.body);
    }
    call(h2, 5, "GET", 0, PBS_H2_COLLECT, 10); /* stays where it is */
    put_status(&in, END_STREAM, 3, 200);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 2, 200, "");
    EXPECT_OUTPUT(h2, "\0\0\4\3\0\0\0\0\3\0\0\0\x08");
    CHECK(state_of(h2).open_streams == 1 && state_of(h2).calls_waiting == 1);
    put_frame(&in, GOAWAY, 0, 0, "\0\0\0\1\0\0\0\2a\nb", 11);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_E_CLOSED);
    CHECK(strcmp(pbs_h2_error(h2), "the target ended the connection: error 2, a?b") == 0);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

static void streams_wait_for_the_limit(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    put_setting(&in, MAX_STREAMS_SETTING, 2);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    for (uint32_t tag = 1; tag <= 5; tag++)
        call(h2, tag, "GET", 0, PBS_H2_COLLECT, 10);
    drain(h2, &out);
    CHECK_EQUAL(state_of(h2).open_streams, 2);
    put_setting(&in, MAX_STREAMS_SETTING, 0);
    put_status(&in, END_STREAM, 1, 200);
    put_status(&in, END_STREAM, 3, 200);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME);
    put_setting(&in, MAX_STREAMS_SETTING, UINT32_MAX);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    drain(h2, &out);
    CHECK_EQUAL(state_of(h2).open_streams, 3);
    CHECK_EQUAL(state_of(h2).requests, 5);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* Refused requests are made again, whole and first; one that is refused for ever is an error. */
static void refused_calls_are_made_again(void)
{
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    struct pbs_h2_answer answer;
    call(h2, 1, "PUT", 3, PBS_H2_COLLECT, 10);
    EXPECT_OUTPUT(h2, "\0\0\x13\1\4\0\0\0\1" PUT_BLOCK "\0\0\3\0\1\0\0\0\1\1\2\3");
    put_u32(&in, RESET, 1, 7);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    CHECK(!pbs_h2_next_answer(h2, &answer) && state_of(h2).refused == 1);
    EXPECT_OUTPUT(h2, "\0\0\x13\1\4\0\0\0\3" PUT_BLOCK "\0\0\3\0\1\0\0\0\3\1\2\3");
    uint32_t id = 3;
    for (; !pbs_h2_next_answer(h2, &answer); id += 2) {
        CHECK(id < 10000);
        put_u32(&in, RESET, id, 7);
        CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
        drain(h2, &out);
    }
    CHECK(answer.status == 0 && answer.reset_code == 7);
    free(answer.body);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* A body that is to be sent once is counted until it is sent, then freed; refused before that, it
 * is made again, after that it is answered so. */
static void once_means_once(void)
{
    struct pbs_h2_call wanted = {.method = "PUT",
                                 .authority = AUTHORITY,
                                 .path = "/p",
                                 .content_type = "t",
                                 .max_body = 10,
                                 .tag = 1,
                                 .once = 1};
    struct pbs_h2 *h2 = begun();
    struct wire in = {0}, out = {0};
    struct pbs_h2_answer answer;
    submit(h2, &wanted, 70000);
    CHECK_EQUAL(pbs_h2_unsent_calls(h2), 70000);
    drain(h2, &out); /* as much as the window takes */
    CHECK_EQUAL(pbs_h2_unsent_calls(h2), 70000 - 65535);
    put_u32(&in, RESET, 1, 7);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    CHECK(!pbs_h2_next_answer(h2, &answer));
    CHECK_EQUAL(pbs_h2_unsent_calls(h2), 70000);
    put_u32(&in, WINDOW, 0, 1 << 20);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    drain(h2, &out);
    put_u32(&in, WINDOW, 3, 1 << 20);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    drain(h2, &out);
    CHECK_EQUAL(pbs_h2_unsent_calls(h2), 0);
    put_u32(&in, RESET, 3, 7);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    answer = next_answer(h2);
    CHECK(answer.status == 0 && answer.reset_code == 7 && answer.tag == 1);
    free(answer.body);
    CHECK_EQUAL(state_of(h2).open_streams, 0);
    submit(h2, &wanted, 3); /* answered as any other */
    drain(h2, &out);
    put_status(&in, END_STREAM, 5, 200);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    expect_answer(h2, 1, 200, "");
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* ---- what breaks the protocol ---- */

static int status_after(const char *bytes, size_t len)
{
    struct pbs_h2 *h2 = begun();
    struct wire out = {0};
    const uint8_t *data;
    size_t n;
    call(h2, 1, "GET", 0, PBS_H2_COLLECT, 10);
    call(h2, 2, "PUT", 70000, PBS_H2_COLLECT, 10);
    drain(h2, &out);
    int status = receive(h2, bytes, len);
    CHECK((status == PBS_OK) == (pbs_h2_error(h2)[0] == '\0'));
    if (status) { /* and so it stays */
        CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &data, &n), status);
        CHECK_EQUAL(RECEIVE(h2, SETTINGS_FRAME), status);
    }
    pbs_h2_free(h2);
    free(out.bytes);
    return status;
}

#define STATUS_AFTER(text) status_after(text, sizeof text - 1)

static void broken_rules_end_the_connection(void)
{
    /* HEADERS: for no stream, one of the peer's, one never opened; no status, bad ones. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\5\0\0\0\0\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\4\0\0\0\0\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\0\0\0\0\0\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\5\0\0\0\2\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\5\0\0\0\7\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\1\5\0\0\0\1"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\2\1\5\0\0\0\1\x88\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\3" "099"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\3" "600"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\3" "2 0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\1\5\0\0\0\1\x08\2" "20"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\1\5\0\0\0\1\x08\3" "000\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\3" "100"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\5\0\0\0\1\xff"), PBS_E_PROTOCOL);
    /* Headers twice, trailers that do not end, or with a status. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\4\0\0\0\1\x88\0\0\1\1\4\0\0\0\1\xa0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\4\0\0\0\1\x88\0\0\1\1\5\0\0\0\1\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\4\0\0\0\1\x88\0\0\1\1\5\0\0\0\1\xa0"), PBS_OK);
    /* CONTINUATION: of nothing, of another stream, interrupted. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\x09\4\0\0\0\1\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\1\1\0\0\0\1\0\0\1\x09\4\0\0\0\3\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\1\1\0\0\0\1" SETTINGS_FRAME), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\1\1\0\0\0\1\0\0\1\x09\4\0\0\0\1\x88"), PBS_OK);
    /* Padding and priority longer than the frame. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\1\x0d\0\0\0\1"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\2\1\x0d\0\0\0\1\2\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\1\x25\0\0\0\1\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\1\4\0\0\0\1\x88\0\0\2\0\x08\0\0\0\1\2\0"), PBS_E_PROTOCOL);
    /* DATA: before the headers, for no stream, and more than its window. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\0\0\0\0\0\1x"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\0\0\0\0\0\0x"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\1\0\0\0\0\0\7x"), PBS_E_PROTOCOL);
    /* WINDOW_UPDATE of 0, of a wrong length, beyond the limit. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\0\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\1\x80\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\3\x08\0\0\0\0\0\0\0\1"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff"), PBS_OK); /* all was used */
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\0\x7f\xff\xff\xff"
                             "\0\0\4\x08\0\0\0\0\0\0\0\0\1"), PBS_E_FLOW);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\1\x7f\xff\xff\xff"), PBS_E_FLOW);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\5\0\0\0\1"), PBS_E_PROTOCOL);
    /* SETTINGS: on a stream, of a wrong length, values out of range, an ACK with content. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\0\4\0\0\0\0\1"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\4\0\0\0\0\0\0\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\4\0\0\0\0\0\0\4\x80\0\0\0"), PBS_E_FLOW);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\4\0\0\0\0\0\0\5\0\0\x3f\xff"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\4\0\0\0\0\0\0\5\1\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\4\0\0\0\0\0\x7f\x7f\1\0\0\0"), PBS_OK);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\4\1\0\0\0\0\0\5\0\0\x40\0"), PBS_E_PROTOCOL);
    /* A stream's window that a setting lifts beyond the limit. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\x08\0\0\0\0\1\x7f\0\0\0"
                             "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff"), PBS_E_FLOW);
    /* The others. */
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\3\0\0\0\0\0\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\3\0\0\0\0\1\0\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\7\6\0\0\0\0\0pingpin"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\x08\6\0\0\0\0\1pingping"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\x08\6\1\0\0\0\0pingping"), PBS_OK);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\5\4\0\0\0\1\0\0\0\2"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\7\7\0\0\0\0\0\0\0\0\0\0\0\0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\x40\1\0\0\0\0\0\1"), PBS_E_PROTOCOL); /* 16,385 bytes */
}

static void settings_come_first(void)
{
    const char *others[] = {"\0\0\x08\6\0\0\0\0\0pingping", "HTTP/1.1 400 Bad Request"};
    for (int i = 0; i < 2; i++) {
        struct pbs_h2 *h2 = new_h2(1, 1);
        CHECK_EQUAL(receive(h2, others[i], 17), PBS_E_PROTOCOL);
        CHECK(pbs_h2_error(h2)[0]);
        pbs_h2_free(h2);
    }
}

/* More than the stream's window in small pieces, and header blocks without an end. */
static void limits_of_ours_are_kept(void)
{
    struct wire in = {0}, out = {0};
    uint8_t block[16384] = {0};
    struct pbs_h2 *h2 = begun();
    call(h2, 1, "GET", 0, PBS_H2_COLLECT, 1 << 20);
    drain(h2, &out);
    put_status(&in, 0, 1, 200);
    put_frame(&in, DATA, 0, 1, block, 16384);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    EXPECT_OUTPUT(h2, "\0\0\4\x08\0\0\0\0\1\0\0\x40\0");
    put_frame(&in, DATA, 0, 1, block, 8191);
    put_frame(&in, DATA, 0, 1, block, 16384);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_E_FLOW);
    pbs_h2_free(h2);

    h2 = begun();
    call(h2, 1, "GET", 0, PBS_H2_COLLECT, 1);
    drain(h2, &out);
    put_frame(&in, HEADERS, 0, 1, block, sizeof block);
    for (int i = 0; i < 4; i++)
        put_frame(&in, CONTINUATION, 0, 1, block, sizeof block);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_E_TOO_LARGE);
    pbs_h2_free(h2);

    /* A peer that never reads what it makes us say. */
    h2 = begun();
    int status = PBS_OK;
    for (int i = 0; i < 1000 && !status; i++) {
        for (int k = 0; k < 1000; k++)
            put_frame(&in, PING, 0, 0, "pingping", 8);
        status = receive_wire(h2, &in);
    }
    CHECK_EQUAL(status, PBS_E_TOO_LARGE);
    CHECK(pbs_h2_error(h2)[0]);
    pbs_h2_free(h2);
    free(in.bytes);
    free(out.bytes);
}

/* Cut in two at each byte, and byte by byte: always the same answers. */
static void bytes_come_in_any_pieces(void)
{
    struct wire in = {0};
    put(&in, SETTINGS_FRAME, 9);
    put_frame(&in, PING, 0, 0, "pingping", 8);
    put_status(&in, 0, 1, 404);
    put_frame(&in, DATA, END_STREAM, 1, "not there", 9);
    put_frame(&in, HEADERS, END_STREAM, 3, "\x48", 1);
    put_frame(&in, CONTINUATION, END_HEADERS, 3, "\3" "503", 4);
    put_frame(&in, HEADERS, END_STREAM | END_HEADERS, 5, "\xbe", 1);
    for (size_t cut = 0; cut <= in.len; cut++) {
        struct pbs_h2 *h2 = new_h2(1, 1);
        struct wire out = {0};
        for (uint32_t tag = 1; tag <= 3; tag++)
            call(h2, tag, "GET", 0, PBS_H2_COLLECT, 10);
        drain(h2, &out);
        if (cut == in.len) {
            for (size_t i = 0; i < in.len; i++)
                CHECK_EQUAL(receive(h2, in.bytes + i, 1), PBS_OK);
        } else {
            CHECK_EQUAL(receive(h2, in.bytes, cut), PBS_OK);
            CHECK_EQUAL(receive(h2, in.bytes + cut, in.len - cut), PBS_OK);
        }
        expect_answer(h2, 1, 404, "not there");
        expect_answer(h2, 2, 503, "");
        expect_answer(h2, 3, 503, "");
        EXPECT_OUTPUT(h2, ACK_FRAME "\0\0\x08\6\1\0\0\0\0pingping");
        CHECK_EQUAL(state_of(h2).received_bytes, 9);
        pbs_h2_free(h2);
        free(out.bytes);
    }
    free(in.bytes);
}

int main(void)
{
    RUN(requests_are_what_they_should_be);
    RUN(bad_calls_and_options_are_refused);
    RUN(bodies_keep_to_windows_and_frames);
    RUN(answers_come_whole);
    RUN(only_the_status_is_wanted);
    RUN(an_answer_may_come_before_the_body_is_out);
    RUN(downloads_get_their_window_back);
    RUN(of_errors_the_beginning_is_kept);
    RUN(downloads_come_in_parts);
    RUN(a_goaway_leaves_later_streams_out);
    RUN(streams_wait_for_the_limit);
    RUN(refused_calls_are_made_again);
    RUN(once_means_once);
    RUN(broken_rules_end_the_connection);
    RUN(settings_come_first);
    RUN(limits_of_ours_are_kept);
    RUN(bytes_come_in_any_pieces);
    return 0;
}
