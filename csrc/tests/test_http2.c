/* Requests: what they are on the wire, and when they go out, wait or are made again. */
#include "expect.h"

#define PREFACE                                                                             \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"                                                      \
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
    EXPECT_OUTPUT(h2, "\0\0\x0b\1\5\0\0\0\1" GET_BLOCK "\0\0\x13\1\4\0\0\0\3" PUT_BLOCK
                      "\0\0\3\0\1\0\0\0\3\2\3\4"
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
                      "\0\0\1\0\0\0\0\0\1\x08"
                      "\0\0\1\0\1\0\0\0\1\x09");
    pbs_h2_free(h2);
    free(in.bytes);
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

/* Cut in two at each byte, and byte by byte: always the same answers. */
static void bytes_come_in_any_pieces(void)
{
    struct wire in = {0};
    put(&in, SETTINGS_FRAME, 9);
    put_frame(&in, PING, 0, 0, "pingping", 8);
    put_status(&in, 0, 1, 404);
    put_frame(&in, DATA, END_STREAM, 1, "not there", 9);
    put_frame(&in, HEADERS, END_STREAM, 3, "\x48", 1);
    put_frame(&in, CONTINUATION, END_HEADERS, 3, "\003503", 4);
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
    RUN(streams_wait_for_the_limit);
    RUN(refused_calls_are_made_again);
    RUN(once_means_once);
    RUN(a_goaway_leaves_later_streams_out);
    RUN(bytes_come_in_any_pieces);
    return 0;
}
