/*
 * A hostile HTTP/2 server out of libFuzzer's input, and what every client has to keep to whatever it
 * is told: whole frames, windows, the bytes of each body in their order, one answer a call.
 *
 * The including target says what its uploads are, and defines _GNU_SOURCE.
 */
#ifndef PBS_FUZZ_TALK_H
#define PBS_FUZZ_TALK_H

#include "fuzz.h"
#include "pbs_http2.h"

/* Whether this status is that of memory that the target has refused. */
#ifndef TALK_NOMEM
#define TALK_NOMEM(status) 0
#endif

enum { TALK_CALLS = 32, TALK_STREAMS = 4096, TALK_WIRE = 1 << 16 };
enum { NONE, CALL, UPLOAD };

struct talk_stream {
    uint8_t kind;
    uint32_t number; /* of the call or the upload */
    size_t sent;
    int ended;
};

struct talk_call {
    size_t body_len, max_body, part_size;
    int answered, is_submitted;
    size_t told; /* bytes of its answer */
};

struct talk {
    struct pbs_h2 *h2;
    struct talk_call calls[TALK_CALLS];
    uint32_t n_calls;
    struct talk_stream streams[TALK_STREAMS];
    uint32_t n_streams, n_uploads;
    int preface_seen, failed;
    uint8_t wire[TALK_WIRE]; /* of the server, not delivered yet */
    size_t wire_len;
};

/* The body of what has this number, as long as any. */
static inline const uint8_t *talk_body(unsigned kind, uint32_t number)
{
    static uint8_t pattern[70000];
    for (size_t i = 0; !pattern[0] && i < sizeof pattern; i++) /* never a 0 at the beginning */
        pattern[sizeof pattern - 1 - i] = (uint8_t)(1 + i % 251 + (i >> 12));
    return pattern + (kind * 101 + number * 17) % 1000;
}

/* The target's: which upload a head is of, and its body as it is to be sent; to be told of a failure. */
static uint32_t upload_of_head(const uint8_t *block, size_t len);
static size_t upload_body_len(uint32_t number);
static int upload_is(uint32_t number, size_t at, const uint8_t *bytes, size_t len);
static void upload_failed(uint64_t job);

/* The number behind `sign` in a head; 0: it is not in there. */
static inline int talk_number(const uint8_t *block, size_t len, const char *sign, uint32_t *out)
{
    const uint8_t *at = memmem(block, len, sign, strlen(sign)), *end = block + len;
    if (!at)
        return 0;
    *out = 0;
    for (at += strlen(sign); at < end && *at >= '0' && *at <= '9'; at++)
        *out = *out * 10 + (*at - (uint32_t)'0');
    return 1;
}

/* ---- what the client sends ---- */

static inline void talk_headers(struct talk *talk, uint32_t id, int flags, const uint8_t *block,
                                size_t len)
{
    CHECK(id == 2 * talk->n_streams + 1 && talk->n_streams < TALK_STREAMS && flags & 4);
    struct talk_stream *stream = &talk->streams[talk->n_streams++];
    uint32_t number;
    int is_call = talk_number(block, len, "/c=", &number);
    if (!is_call)
        number = upload_of_head(block, len);
    *stream = (struct talk_stream){.kind = is_call ? CALL : UPLOAD, .number = number};
    talk->n_uploads += !is_call;
    stream->ended = flags & 1;
    if (stream->kind == CALL)
        CHECK(number < talk->n_calls && !talk->calls[number].answered);
    CHECK(stream->ended == (stream->kind == CALL && talk->calls[number].body_len == 0));
}

static inline void talk_data(struct talk *talk, uint32_t id, int flags, const uint8_t *data,
                             size_t len)
{
    CHECK(id % 2 == 1 && id / 2 < talk->n_streams);
    struct talk_stream *stream = &talk->streams[id / 2];
    size_t whole = stream->kind == CALL ? talk->calls[stream->number].body_len
                                        : upload_body_len(stream->number);
    CHECK(!stream->ended && len > 0 && stream->sent + len <= whole);
    CHECK(stream->kind == CALL
              ? memcmp(data, talk_body(CALL, stream->number) + stream->sent, len) == 0
              : upload_is(stream->number, stream->sent, data, len));
    stream->sent += len;
    stream->ended = flags & 1;
    CHECK(stream->ended == (stream->sent == whole));
}

/* One output, after what the state was before it. */
static inline void talk_output(struct talk *talk, const uint8_t *out, size_t len, size_t max_body,
                               const struct pbs_h2_state *before)
{
    uint8_t *exact = exact_copy(out, len), *at = exact;
    size_t bodies = 0;
    if (!talk->preface_seen) {
        CHECK(len > 24 && memcmp(at, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) == 0);
        talk->preface_seen = 1;
        at += 24;
        len -= 24;
    }
    while (len) {
        CHECK(len >= 9);
        size_t size = pbs_load_be24(at);
        uint32_t id = pbs_load_be32(at + 5);
        CHECK(size <= len - 9);
        if (at[3] == 0) {
            CHECK(size <= before->peer_frame_size);
            talk_data(talk, id, at[4], at + 9, size);
            bodies += size;
        } else if (at[3] == 1) {
            talk_headers(talk, id, at[4], at + 9, size);
        } else {
            CHECK(at[3] == 3 || at[3] == 4 || at[3] == 6 || at[3] == 8);
        }
        at += 9 + size;
        len -= 9 + size;
    }
    CHECK(bodies <= max_body && (!bodies || (int64_t)bodies <= before->send_window));
    free(exact);
}

static inline int talk_is_error(int status)
{
    return status == PBS_E_PROTOCOL || status == PBS_E_FLOW || status == PBS_E_TOO_LARGE ||
           status == PBS_E_CLOSED || TALK_NOMEM(status);
}

/* Returns whether there was any output. */
static inline int talk_send(struct talk *talk, size_t max_body)
{
    struct pbs_h2_state before, after;
    const uint8_t *out;
    size_t len = 0;
    pbs_h2_state(talk->h2, &before);
    int status = pbs_h2_send(talk->h2, max_body, &out, &len);
    if (talk->failed) {
        CHECK(status == talk->failed);
        return 0;
    }
    if (status) {
        CHECK(talk_is_error(status));
        talk->failed = status;
        return 0;
    }
    if (len)
        talk_output(talk, out, len, max_body, &before);
    pbs_h2_state(talk->h2, &after);
    CHECK(after.open_streams <= 1024);
    if (after.open_streams > before.open_streams)
        CHECK(after.open_streams <= before.peer_max_streams && !before.going_away);
    CHECK((int64_t)(after.sent_bytes - before.sent_bytes) ==
          before.send_window - after.send_window);
    return len > 0;
}

/* ---- what it is told ---- */

static inline void talk_answers(struct talk *talk)
{
    struct pbs_h2_answer answer;
    while (pbs_h2_next_answer(talk->h2, &answer)) {
        touch(answer.body, answer.body_len);
        CHECK(answer.status == 0 || (answer.status >= 200 && answer.status < 600));
        if (answer.is_upload) {
            CHECK(answer.body_len <= 4096 && !answer.is_part);
            upload_failed(answer.job);
        } else {
            CHECK(answer.tag < talk->n_calls);
            struct talk_call *call = &talk->calls[answer.tag];
            CHECK(!call->answered);
            CHECK(!answer.is_part || (call->part_size && answer.body_len >= call->part_size));
            call->told += answer.body_len;
            CHECK(call->told <= call->max_body);
            call->answered = !answer.is_part;
        }
        free(answer.body);
    }
}

static inline void talk_deliver(struct talk *talk, size_t piece)
{
    size_t at = 0;
    while (at < talk->wire_len) {
        size_t n = piece && piece < talk->wire_len - at ? piece : talk->wire_len - at;
        uint8_t *exact = exact_copy(talk->wire + at, n);
        int status = pbs_h2_receive(talk->h2, exact, n);
        free(exact);
        at += n;
        if (talk->failed)
            CHECK(status == talk->failed);
        else if (status)
            CHECK(talk_is_error(status));
        talk->failed = status;
        /* Nothing is said of what is not the server's fault. */
        CHECK((status != PBS_OK && !TALK_NOMEM(status)) == (pbs_h2_error(talk->h2)[0] != '\0'));
        for (const char *text = pbs_h2_error(talk->h2); *text; text++)
            CHECK(*text >= ' ' && *text < 0x7f);
        if (status)
            break;
    }
    talk->wire_len = 0;
}

static inline void talk_put(struct talk *talk, const uint8_t *bytes, size_t len)
{
    if (len > TALK_WIRE - talk->wire_len)
        talk_deliver(talk, 0);
    if (len)
        memcpy(talk->wire + talk->wire_len, bytes, len);
    talk->wire_len += len;
}

/* A frame of the server, of the length that it says; a long one holds zeros. */
static inline void talk_frame(struct talk *talk, struct input *in)
{
    uint8_t header[9], *payload;
    unsigned how = take_u8(in), flags = how >> 4 & 3;
    uint32_t stream = take_u8(in);
    size_t wanted = take_u8(in), len = 0;
    const uint8_t *given = in->at;
    if (how & 0x40)
        wanted = wanted << 7; /* up to 32 KiB, twice of what we allow */
    else
        given = take_bytes(in, wanted, &len);
    payload = allocate(wanted);
    memset(payload, 0, wanted);
    if (len)
        memcpy(payload, given, len);
    pbs_store_be24(header, (uint32_t)wanted);
    header[3] = (how & 15) % 11;
    header[4] = flags == 0 ? 0 : flags == 1 ? 1 : flags == 2 ? 4 : take_u8(in);
    pbs_store_be32(header + 5, stream & 0x7f);
    talk_put(talk, header, 9);
    talk_put(talk, payload, wanted);
    free(payload);
}

/* HEADERS with a status, of the table or spelled out, and nothing else; it ends the stream or not. */
static inline void talk_status(struct talk *talk, struct input *in)
{
    unsigned status = take_u8(in), stream = take_u8(in);
    uint8_t block[6] = {(uint8_t)(0x88 + status % 8)};
    uint8_t header[9] = {
        0, 0, 1, 1, (uint8_t)(4 | (stream & 0x80 ? 1 : 0)), 0, 0, 0, (uint8_t)(stream & 0x7f)};
    if (status & 8) {
        block[0] = 0x08;
        block[1] = 3;
        for (int i = 4; i > 1; i--, status /= 10)
            block[i] = (uint8_t)('0' + status % 10 + (i == 2));
        header[2] = 5;
    }
    talk_put(talk, header, 9);
    talk_put(talk, block, header[2]);
}

static inline void talk_call(struct talk *talk, struct input *in)
{
    static const char *methods[] = {"GET", "POST", "PUT"};
    struct pbs_h2_message *message;
    char path[20];
    uint8_t *body;
    unsigned how = take_u8(in);
    size_t body_len = how & 1 ? take_u16(in) % 6000 : how & 2 ? take_u8(in) : 0;
    if (talk->n_calls == TALK_CALLS)
        return;
    struct talk_call *call = &talk->calls[talk->n_calls];
    *call = (struct talk_call){.body_len = body_len, .max_body = take_u16(in)};
    call->part_size = how & 4 ? 1u + take_u8(in) : 0;
    snprintf(path, sizeof path, "/c=%u", (unsigned)talk->n_calls);
    struct pbs_h2_call wanted = {
        .method = methods[(how >> 3) % 3],
        .authority = "a:1",
        .path = path,
        .content_type = body_len ? "t" : NULL,
        .mode = (enum pbs_h2_answer_mode)((how >> 5) % 3),
        .max_body = call->max_body,
        .part_size = call->part_size,
        .tag = talk->n_calls,
        .once = how >> 7,
    };
    int status = pbs_h2_message_new(&wanted, body_len, &message, &body);
    if (TALK_NOMEM(status))
        return;
    CHECK(status == PBS_OK);
    if (body_len)
        memcpy(body, talk_body(CALL, talk->n_calls), body_len);
    talk->n_calls++;
    pbs_h2_submit(talk->h2, message, body_len);
}

/* The rest of the input is nothing but the server's bytes, in pieces of one size. */
static inline void talk_raw(struct talk *talk, struct input *in)
{
    size_t piece = take_u8(in), len;
    while (in->left && !talk->failed) {
        const uint8_t *bytes = take_bytes(in, piece ? piece : 1000, &len);
        talk_put(talk, bytes, len);
        talk_deliver(talk, 0);
        talk_send(talk, SIZE_MAX);
        talk_answers(talk);
    }
}

/* One thing that the server, or the user of the client, may do. Op 15 is the target's own. */
static inline void talk_act(struct talk *talk, struct input *in, unsigned op)
{
    switch (op % 16) {
    case 0:
        talk_call(talk, in);
        break;
    case 1:
        talk_deliver(talk, op / 16);
        break;
    case 2:
        talk_answers(talk);
        break;
    case 3:
        talk_send(talk, 1u + take_u16(in));
        break;
    case 4:
    case 5:
        talk_deliver(talk, 0);
        while (talk_send(talk, SIZE_MAX))
            continue;
        talk_answers(talk);
        break;
    case 6:
    case 7:
    case 8:
        talk_status(talk, in);
        break;
    default:
        talk_frame(talk, in);
    }
}

/* Returns 0 where there is no memory for it. */
static inline int talk_begin(struct talk *talk, struct input *in)
{
    talk->n_calls = talk->n_streams = talk->n_uploads = 0;
    talk->preface_seen = talk->failed = 0;
    talk->wire_len = 0;
    unsigned how = take_u8(in);
    size_t frame_size = 1u + (how & 2 ? take_u8(in) : take_u16(in));
    struct pbs_h2_options options = {frame_size, 1u + take_u16(in)};
    int status = pbs_h2_new(&options, &talk->h2);
    if (TALK_NOMEM(status))
        return 0;
    CHECK(status == PBS_OK);
    if (how & 1) {
        talk_send(talk, SIZE_MAX);
        talk_put(talk, (const uint8_t *)"\0\0\0\4\0\0\0\0\0", 9);
        talk_deliver(talk, 0);
    }
    return 1;
}

static inline void talk_end(struct talk *talk)
{
    talk_deliver(talk, 0);
    for (int i = 0; i < 50 && talk_send(talk, SIZE_MAX); i++)
        continue;
    talk_answers(talk);
    CHECK(pbs_h2_unsent_calls(talk->h2) < TALK_CALLS << 16);
    pbs_h2_free(talk->h2);
}

#endif
