/* What breaks the protocol, or goes beyond our limits, ends the connection. */
#include "expect.h"

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
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\003099"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\003600"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\0032 0"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\4\1\5\0\0\0\1\x08\00220"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\6\1\5\0\0\0\1\x08\003000\x88"), PBS_E_PROTOCOL);
    CHECK_EQUAL(STATUS_AFTER("\0\0\5\1\5\0\0\0\1\x08\003100"), PBS_E_PROTOCOL);
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
                             "\0\0\4\x08\0\0\0\0\0\0\0\0\1"),
                PBS_E_FLOW);
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
                             "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff"),
                PBS_E_FLOW);
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

int main(void)
{
    RUN(broken_rules_end_the_connection);
    RUN(settings_come_first);
    RUN(limits_of_ours_are_kept);
    return 0;
}
