#include "pbs_http2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pbs_bytes.h"
#include "pbs_error.h"
#include "pbs_hpack.h"

enum frame_type {
    FRAME_DATA = 0x0,
    FRAME_HEADERS = 0x1,
    FRAME_PRIORITY = 0x2,
    FRAME_RST_STREAM = 0x3,
    FRAME_SETTINGS = 0x4,
    FRAME_PUSH_PROMISE = 0x5,
    FRAME_PING = 0x6,
    FRAME_GOAWAY = 0x7,
    FRAME_WINDOW_UPDATE = 0x8,
    FRAME_CONTINUATION = 0x9,
};

#define FLAG_END_STREAM 0x1
#define FLAG_ACK 0x1
#define FLAG_END_HEADERS 0x4
#define FLAG_PADDED 0x8
#define FLAG_PRIORITY 0x20

enum setting {
    SETTING_ENABLE_PUSH = 0x2,
    SETTING_MAX_CONCURRENT_STREAMS = 0x3,
    SETTING_INITIAL_WINDOW_SIZE = 0x4,
    SETTING_MAX_FRAME_SIZE = 0x5,
};

#define ERROR_CANCEL 0x8
#define ERROR_REFUSED_STREAM 0x7

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define MAX_WINDOW 0x7fffffff
#define DEFAULT_WINDOW 65535
#define OUR_MAX_FRAME 16384u
#define MAX_HEADER_BLOCK 65536u
#define MAX_STREAM_ID 0x7fffffffu

/* More streams at once would gain nothing, and bound our memory whatever the peer allows. */
#define MAX_STREAMS 1024u
/* Refused streams that are always put up with: twice what a server allows at once. */
#define FEW_REFUSALS 400u
/* Why an upload failed is told in a line. */
#define UPLOAD_ERROR_MAX 4096u
/* Control frames that wait for the peer to read (it made us send them, so it may be hostile). */
#define MAX_CONTROL (1u << 20)

struct pbs_h2_message {
    struct pbs_message message; /* start is this structure's own memory */
    enum pbs_h2_answer_mode mode;
    size_t max_body;
    uint32_t tag;
    struct pbs_h2_message *next;
    uint8_t memory[];
};

struct bytes {
    uint8_t *data;
    size_t len;
    size_t capacity;
};

struct stream {
    uint32_t id;
    int64_t window;
    struct pbs_message out;
    size_t sent;                 /* of the body */
    struct pbs_h2_message *call; /* NULL: an upload */
    uint64_t job;
    uint64_t slot;
    int holds_slot;
    unsigned status; /* 0: no final HEADERS yet */
    int too_large;
    int64_t receive_window;
    uint64_t unacknowledged; /* received and not given back */
    struct bytes body;
};

struct answer_node {
    struct pbs_h2_answer answer;
    struct answer_node *next;
};

struct pbs_h2 {
    struct pbs_h2_options options;
    struct pbs_upload *upload;
    struct pbs_hpack *hpack;
    struct pbs_h2_state state;
    int failed; /* what made the connection unusable, or PBS_OK */
    char error[160];

    struct stream *streams[MAX_STREAMS]; /* open ones, oldest first */
    struct stream *spare;                /* one to use again: uploads come and go */
    uint32_t n_sending;                  /* of those, with unsent body */
    uint32_t next_id;

    struct pbs_h2_message *calls; /* submitted, first to last */
    struct pbs_h2_message **calls_end;
    struct answer_node *answers;
    struct answer_node **answers_end;

    int64_t receive_window; /* what the peer may still send on the connection */

    struct bytes control;  /* frames to send before all else */
    size_t control_taken;  /* the last output was that many of them */

    size_t body_left; /* what the output being made may still carry of bodies */

    uint8_t saved[PBS_FRAME_HEADER]; /* what a DATA header was written over */
    uint8_t *saved_at;
    uint64_t *finished; /* slots all of whose bytes are in the last output */
    size_t n_finished;
    size_t finished_capacity;

    struct bytes input;   /* an incomplete frame */
    struct bytes headers; /* a header block in pieces */
    uint32_t headers_stream;
    int headers_end_stream;
};

/* ---- small things ---- */

static int append(struct bytes *bytes, const void *data, size_t len)
{
    if (len > bytes->capacity - bytes->len) {
        size_t capacity = bytes->capacity ? bytes->capacity : 256;
        while (capacity - bytes->len < len)
            capacity *= 2;
        uint8_t *grown = realloc(bytes->data, capacity);
        if (!grown)
            return PBS_E_NOMEM;
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    if (len)
        memcpy(bytes->data + bytes->len, data, len);
    bytes->len += len;
    return PBS_OK;
}

static void put_frame_header(uint8_t *out, size_t len, enum frame_type type, unsigned flags,
                             uint32_t stream)
{
    pbs_store_be24(out, (uint32_t)len);
    out[3] = (uint8_t)type;
    out[4] = (uint8_t)flags;
    pbs_store_be32(out + 5, stream);
}

static int broken(struct pbs_h2 *h2, int status, const char *why)
{
    snprintf(h2->error, sizeof h2->error, "%s", why);
    return status;
}

static int put_control(struct pbs_h2 *h2, enum frame_type type, unsigned flags, uint32_t stream,
                       const void *payload, size_t len)
{
    uint8_t header[PBS_FRAME_HEADER];

    if (h2->control.len > MAX_CONTROL)
        return broken(h2, PBS_E_TOO_LARGE, "the target makes us answer more than it reads");
    put_frame_header(header, len, type, flags, stream);
    int status = append(&h2->control, header, sizeof header);
    return status ? status : append(&h2->control, payload, len);
}

static int put_u32(struct pbs_h2 *h2, enum frame_type type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];

    pbs_store_be32(payload, value);
    return put_control(h2, type, 0, stream, payload, sizeof payload);
}

const char *pbs_h2_error(const struct pbs_h2 *h2)
{
    return h2->error;
}

void pbs_h2_state(const struct pbs_h2 *h2, struct pbs_h2_state *out)
{
    *out = h2->state;
}

/* ---- birth and death ---- */

static int put_preface(struct pbs_h2 *h2)
{
    uint8_t settings[12];

    pbs_store_be16(settings, SETTING_ENABLE_PUSH);
    pbs_store_be32(settings + 2, 0);
    pbs_store_be16(settings + 6, SETTING_INITIAL_WINDOW_SIZE);
    pbs_store_be32(settings + 8, PBS_H2_INITIAL_WINDOW);
    int status = append(&h2->control, PREFACE, strlen(PREFACE));
    if (!status)
        status = put_control(h2, FRAME_SETTINGS, 0, 0, settings, sizeof settings);
    if (!status)
        status = put_u32(h2, FRAME_WINDOW_UPDATE, 0, MAX_WINDOW - DEFAULT_WINDOW);
    return status;
}

int pbs_h2_new(const struct pbs_h2_options *options, struct pbs_h2 **out)
{
    if (options->frame_size == 0 || options->span_size == 0)
        return PBS_E_INVALID;
    struct pbs_h2 *h2 = calloc(1, sizeof *h2);
    if (!h2)
        return PBS_E_NOMEM;
    h2->options = *options;
    h2->next_id = 1;
    h2->calls_end = &h2->calls;
    h2->answers_end = &h2->answers;
    h2->receive_window = MAX_WINDOW;
    h2->state.send_window = DEFAULT_WINDOW;
    h2->state.peer_initial_window = DEFAULT_WINDOW;
    h2->state.peer_frame_size = OUR_MAX_FRAME;
    h2->state.peer_max_streams = MAX_STREAMS;
    int status = pbs_hpack_new(&h2->hpack);
    if (!status)
        status = put_preface(h2);
    if (status) {
        pbs_h2_free(h2);
        return status;
    }
    *out = h2;
    return PBS_OK;
}

static void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    free(stream->call);
    free(stream->body.data);
    free(stream);
}

void pbs_h2_free(struct pbs_h2 *h2)
{
    if (!h2)
        return;
    for (uint32_t i = 0; i < h2->state.open_streams; i++)
        stream_free(h2->streams[i]);
    stream_free(h2->spare);
    while (h2->calls) {
        struct pbs_h2_message *next = h2->calls->next;
        free(h2->calls);
        h2->calls = next;
    }
    while (h2->answers) {
        struct answer_node *next = h2->answers->next;
        free(h2->answers->answer.body);
        free(h2->answers);
        h2->answers = next;
    }
    pbs_hpack_free(h2->hpack);
    free(h2->control.data);
    free(h2->input.data);
    free(h2->headers.data);
    free(h2->finished);
    free(h2);
}

void pbs_h2_attach(struct pbs_h2 *h2, struct pbs_upload *upload)
{
    h2->upload = upload;
}

/* ---- calls ---- */

static int method_row(const char *method)
{
    if (strcmp(method, "GET") == 0)
        return PBS_HPACK_METHOD_GET;
    if (strcmp(method, "POST") == 0)
        return PBS_HPACK_METHOD_POST;
    return strcmp(method, "PUT") == 0 ? 0 : -1;
}

int pbs_h2_message_new(const struct pbs_h2_call *call, size_t body_size,
                       struct pbs_h2_message **out, uint8_t **out_body)
{
    int row = method_row(call->method);
    if (row < 0)
        return PBS_E_INVALID;
    size_t authority_len = strlen(call->authority), path_len = strlen(call->path);
    size_t type_len = call->content_type ? strlen(call->content_type) : 0;
    if (authority_len + path_len + type_len > OUR_MAX_FRAME - 64)
        return PBS_E_TOO_LARGE;

    size_t block = (row ? 1 : pbs_hpack_literal_size(PBS_HPACK_METHOD_GET, 3)) + 1 +
                   pbs_hpack_literal_size(PBS_HPACK_AUTHORITY, authority_len) +
                   pbs_hpack_literal_size(PBS_HPACK_PATH, path_len);
    if (call->content_type)
        block += pbs_hpack_literal_size(PBS_HPACK_CONTENT_TYPE, type_len);
    size_t head = PBS_FRAME_HEADER + block;
    struct pbs_h2_message *message =
        malloc(sizeof *message + head + (body_size ? PBS_FRAME_HEADER + body_size : 0));
    if (!message)
        return PBS_E_NOMEM;
    message->message = (struct pbs_message){message->memory, head, body_size};
    message->mode = call->mode;
    message->max_body = call->max_body;
    message->tag = call->tag;
    message->next = NULL;

    put_frame_header(message->memory, block, FRAME_HEADERS, FLAG_END_HEADERS, 0);
    uint8_t *at = message->memory + PBS_FRAME_HEADER;
    if (row)
        at += pbs_hpack_indexed(at, (unsigned)row);
    else
        at += pbs_hpack_literal(at, PBS_HPACK_METHOD_GET, call->method, 3);
    at += pbs_hpack_indexed(at, PBS_HPACK_SCHEME_HTTPS);
    at += pbs_hpack_literal(at, PBS_HPACK_AUTHORITY, call->authority, authority_len);
    at += pbs_hpack_literal(at, PBS_HPACK_PATH, call->path, path_len);
    if (call->content_type)
        pbs_hpack_literal(at, PBS_HPACK_CONTENT_TYPE, call->content_type, type_len);
    *out = message;
    *out_body = body_size ? message->memory + head + PBS_FRAME_HEADER : NULL;
    return PBS_OK;
}

void pbs_h2_message_free(struct pbs_h2_message *message)
{
    free(message);
}

void pbs_h2_submit(struct pbs_h2 *h2, struct pbs_h2_message *message, size_t body_len)
{
    message->message.body_len = body_len;
    *h2->calls_end = message;
    h2->calls_end = &message->next;
    h2->state.calls_waiting++;
}

/* ---- streams ---- */

static struct stream *find_stream(struct pbs_h2 *h2, uint32_t id, uint32_t *out_at)
{
    /* Answers come roughly in the order of the requests, so this looks at one or two. */
    for (uint32_t i = 0; i < h2->state.open_streams && h2->streams[i]->id <= id; i++)
        if (h2->streams[i]->id == id) {
            *out_at = i;
            return h2->streams[i];
        }
    return NULL;
}

static int unsent(const struct stream *stream)
{
    return stream->sent < stream->out.body_len;
}

static int release_later(struct pbs_h2 *h2, uint64_t slot)
{
    if (h2->n_finished == h2->finished_capacity) {
        size_t capacity = h2->finished_capacity ? 2 * h2->finished_capacity : 64;
        uint64_t *grown = realloc(h2->finished, capacity * sizeof *grown);
        if (!grown)
            return PBS_E_NOMEM;
        h2->finished = grown;
        h2->finished_capacity = capacity;
    }
    h2->finished[h2->n_finished++] = slot;
    return PBS_OK;
}

/* Send no more of a stream's body. */
static void drop_body(struct pbs_h2 *h2, struct stream *stream)
{
    if (!unsent(stream))
        return;
    stream->sent = stream->out.body_len;
    h2->n_sending--;
}

/* Only while receiving, when no output is out that the stream's memory could be a part of. */
static void close_stream(struct pbs_h2 *h2, struct stream *stream, uint32_t at)
{
    drop_body(h2, stream);
    if (stream->holds_slot)
        pbs_upload_release(h2->upload, stream->slot);
    stream->holds_slot = 0;
    h2->state.open_streams--;
    memmove(&h2->streams[at], &h2->streams[at + 1],
            (h2->state.open_streams - at) * sizeof h2->streams[0]);
    if (h2->spare) {
        stream_free(stream);
        return;
    }
    free(stream->call);
    stream->call = NULL;
    h2->spare = stream;
}

static int open_stream(struct pbs_h2 *h2, const struct pbs_message *out, struct stream **ret)
{
    struct stream *stream = h2->spare;
    struct bytes body = {0};

    if (stream) {
        h2->spare = NULL;
        body = (struct bytes){stream->body.data, 0, stream->body.capacity};
    } else {
        stream = malloc(sizeof *stream);
        if (!stream)
            return PBS_E_NOMEM;
    }
    *stream = (struct stream){
        .id = h2->next_id,
        .window = h2->state.peer_initial_window,
        .out = *out,
        .receive_window = PBS_H2_INITIAL_WINDOW,
        .body = body,
    };
    h2->next_id += 2;
    h2->state.going_away |= h2->next_id > MAX_STREAM_ID;
    h2->state.requests++;
    h2->streams[h2->state.open_streams++] = stream;
    if (unsent(stream))
        h2->n_sending++;
    *ret = stream;
    return PBS_OK;
}

static int add_answer(struct pbs_h2 *h2, struct stream *stream, unsigned status,
                      uint32_t reset_code)
{
    struct answer_node *node = calloc(1, sizeof *node);
    if (!node)
        return PBS_E_NOMEM;
    node->answer = (struct pbs_h2_answer){
        .tag = stream->call ? stream->call->tag : 0,
        .is_upload = stream->call == NULL,
        .job = stream->job,
        .status = status,
        .reset_code = reset_code,
        .body_too_large = stream->too_large,
        .body = stream->body.data,
        .body_len = stream->body.len,
    };
    stream->body = (struct bytes){0};
    *h2->answers_end = node;
    h2->answers_end = &node->next;
    return PBS_OK;
}

/* The stream has all of its answer, or will get no more of it. */
static int answered(struct pbs_h2 *h2, struct stream *stream, uint32_t at, uint32_t reset_code)
{
    unsigned code = reset_code == 0 || stream->status >= 300 ? stream->status : 0;
    int status = PBS_OK;

    if (!stream->call && code >= 200 && code < 300) {
        h2->state.uploads_done++;
        h2->state.uploads_bytes += stream->out.body_len;
        pbs_upload_acknowledge(h2->upload, stream->job);
    } else {
        status = add_answer(h2, stream, code, reset_code);
    }
    if (!status && unsent(stream)) /* the peer answered without waiting for the body */
        status = put_u32(h2, FRAME_RST_STREAM, stream->id, ERROR_CANCEL);
    close_stream(h2, stream, at);
    return status;
}

int pbs_h2_next_answer(struct pbs_h2 *h2, struct pbs_h2_answer *out)
{
    struct answer_node *node = h2->answers;

    if (!node)
        return 0;
    h2->answers = node->next;
    if (!h2->answers)
        h2->answers_end = &h2->answers;
    *out = node->answer;
    free(node);
    return 1;
}

/* ---- sending ---- */

static int may_open(const struct pbs_h2 *h2)
{
    uint32_t limit = h2->state.peer_max_streams;

    return h2->state.open_streams < (limit < MAX_STREAMS ? limit : MAX_STREAMS) &&
           !h2->state.going_away;
}

/* How much of a stream's body one frame may carry now. */
static size_t sendable(const struct pbs_h2 *h2, const struct stream *stream)
{
    size_t n = stream->out.body_len - stream->sent;
    size_t frame = h2->options.frame_size;

    if (frame > h2->body_left)
        frame = h2->body_left;
    if (frame > h2->state.peer_frame_size)
        frame = h2->state.peer_frame_size;
    if (n > frame)
        n = frame;
    if (stream->window <= 0 || h2->state.send_window <= 0)
        return 0;
    if ((int64_t)n > stream->window)
        n = (size_t)stream->window;
    if ((int64_t)n > h2->state.send_window)
        n = (size_t)h2->state.send_window;
    return n;
}

static uint8_t *body_of(const struct stream *stream)
{
    return stream->out.start + stream->out.head_len + PBS_FRAME_HEADER;
}

/* Account for n bytes of body that the output being made carries. */
static int count_sent(struct pbs_h2 *h2, struct stream *stream, size_t n)
{
    stream->sent += n;
    stream->window -= (int64_t)n;
    h2->state.send_window -= (int64_t)n;
    h2->state.sent_bytes += n;
    h2->body_left -= n;
    if (unsent(stream))
        return PBS_OK;
    h2->n_sending--;
    if (!stream->holds_slot)
        return PBS_OK;
    stream->holds_slot = 0;
    return release_later(h2, stream->slot);
}

/* Begin a stream: its HEADERS, and if a window is open, its first DATA frame behind them. */
static int first_output(struct pbs_h2 *h2, struct stream *stream, size_t *out_len)
{
    uint8_t *start = stream->out.start;
    size_t n = sendable(h2, stream);

    pbs_store_be32(start + 5, stream->id);
    if (stream->out.body_len == 0)
        start[4] |= FLAG_END_STREAM;
    *out_len = stream->out.head_len;
    if (n == 0)
        return PBS_OK;
    put_frame_header(start + stream->out.head_len, n, FRAME_DATA,
                     n == stream->out.body_len ? FLAG_END_STREAM : 0, stream->id);
    *out_len += PBS_FRAME_HEADER + n;
    return count_sent(h2, stream, n);
}

/* The next DATA frame of a stream that has begun. */
static int next_output(struct pbs_h2 *h2, struct stream *stream, size_t n, const uint8_t **out,
                       size_t *out_len)
{
    uint8_t *header = body_of(stream) + stream->sent - PBS_FRAME_HEADER;
    int last = stream->sent + n == stream->out.body_len;

    memcpy(h2->saved, header, PBS_FRAME_HEADER);
    h2->saved_at = header;
    put_frame_header(header, n, FRAME_DATA, last ? FLAG_END_STREAM : 0, stream->id);
    *out = header;
    *out_len = PBS_FRAME_HEADER + n;
    return count_sent(h2, stream, n);
}

/* A frame of the oldest stream that can send one: of a call, or of an upload. */
static int send_more(struct pbs_h2 *h2, int of_call, const uint8_t **out, size_t *out_len)
{
    for (uint32_t i = 0; h2->n_sending && i < h2->state.open_streams; i++) {
        struct stream *stream = h2->streams[i];
        if (!unsent(stream) || (stream->call != NULL) != of_call)
            continue;
        size_t n = sendable(h2, stream);
        if (n > 0)
            return next_output(h2, stream, n, out, out_len);
    }
    return PBS_OK;
}

static int open_download_window(struct pbs_h2 *h2, struct stream *stream)
{
    stream->receive_window += PBS_H2_DOWNLOAD_WINDOW;
    return put_u32(h2, FRAME_WINDOW_UPDATE, stream->id, PBS_H2_DOWNLOAD_WINDOW);
}

static int send_call(struct pbs_h2 *h2, const uint8_t **out, size_t *out_len)
{
    struct pbs_h2_message *call = h2->calls;
    struct stream *stream;

    if (!call || !may_open(h2))
        return PBS_OK;
    int status = open_stream(h2, &call->message, &stream);
    if (status)
        return status;
    h2->calls = call->next;
    if (!h2->calls)
        h2->calls_end = &h2->calls;
    h2->state.calls_waiting--;
    stream->call = call;
    if (call->mode == PBS_H2_DOWNLOAD)
        status = open_download_window(h2, stream); /* goes out right after the HEADERS */
    *out = call->message.start;
    return status ? status : first_output(h2, stream, out_len);
}

/* Begin as many uploads as lie back to back, up to the span's size. */
static int send_uploads(struct pbs_h2 *h2, const uint8_t **out, size_t *out_len)
{
    struct pbs_upload_piece piece;
    struct stream *stream;
    size_t len = 0;

    if (!h2->upload)
        return PBS_OK;
    while (len < h2->options.span_size && h2->body_left && may_open(h2)) {
        /* With closed windows a stream gains nothing by being open, unless it is the only one: a
         * peer may open a stream's window only once it knows of the stream. */
        if (h2->n_sending && (h2->state.send_window <= 0 || len))
            break;
        if (!pbs_upload_next(h2->upload, len ? *out + len : NULL, &piece))
            break;
        int status = open_stream(h2, &piece.message, &stream);
        if (status)
            return status;
        stream->job = piece.job;
        stream->slot = piece.slot;
        stream->holds_slot = 1;
        if (!len)
            *out = piece.message.start;
        size_t more = 0;
        status = first_output(h2, stream, &more);
        if (status)
            return status;
        len += more;
    }
    *out_len = len;
    return PBS_OK;
}

/* What the last output held has been sent: put bytes back, give memory back. */
static void settle(struct pbs_h2 *h2)
{
    if (h2->saved_at) {
        memcpy(h2->saved_at, h2->saved, PBS_FRAME_HEADER);
        h2->saved_at = NULL;
    }
    for (size_t i = 0; i < h2->n_finished; i++)
        pbs_upload_release(h2->upload, h2->finished[i]);
    h2->n_finished = 0;
    if (h2->control_taken) {
        h2->control.len -= h2->control_taken;
        memmove(h2->control.data, h2->control.data + h2->control_taken, h2->control.len);
        h2->control_taken = 0;
    }
}

int pbs_h2_send(struct pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len)
{
    const uint8_t *data = NULL;
    size_t len = 0;
    int status = h2->failed;

    if (status)
        return status;
    if (max_body == 0)
        return PBS_E_INVALID;
    settle(h2);
    h2->body_left = max_body;
    if (h2->upload)
        pbs_upload_clear_event(h2->upload);
    if (h2->control.len) {
        data = h2->control.data;
        len = h2->control_taken = h2->control.len;
    }
    /* Calls before chunks: they are small, and what follows them waits for their answers. */
    if (!len)
        status = send_more(h2, 1, &data, &len);
    if (!status && !len)
        status = send_call(h2, &data, &len);
    if (!status && !len)
        status = send_more(h2, 0, &data, &len);
    if (!status && !len)
        status = send_uploads(h2, &data, &len);
    h2->failed = status;
    if (status)
        return status;
    *out = data;
    *out_len = len;
    return PBS_OK;
}

/* ---- receiving: frames ---- */

struct frame {
    uint32_t len;
    uint8_t type;
    uint8_t flags;
    uint32_t stream;
    const uint8_t *payload;
};

static int strip_padding(struct pbs_h2 *h2, struct frame *frame)
{
    if (!(frame->flags & FLAG_PADDED))
        return PBS_OK;
    if (frame->len < 1 || frame->payload[0] > frame->len - 1)
        return broken(h2, PBS_E_PROTOCOL, "a frame's padding is longer than the frame");
    uint8_t padding = frame->payload[0];
    frame->payload++;
    frame->len -= 1u + padding;
    return PBS_OK;
}

/* Streams that are not open are either closed, and what comes for them is late, or never were. */
static int check_known(struct pbs_h2 *h2, uint32_t id)
{
    if (id == 0 || id % 2 == 0 || id >= h2->next_id)
        return broken(h2, PBS_E_PROTOCOL, "a frame for a stream that was never opened");
    return PBS_OK;
}

static int give_back(struct pbs_h2 *h2, uint32_t flow_len)
{
    h2->receive_window -= flow_len;
    if (h2->receive_window < 0)
        return broken(h2, PBS_E_FLOW, "the target sent more than the connection's window");
    if (h2->receive_window > MAX_WINDOW / 2)
        return PBS_OK;
    uint32_t more = (uint32_t)(MAX_WINDOW - h2->receive_window);
    h2->receive_window = MAX_WINDOW;
    return put_u32(h2, FRAME_WINDOW_UPDATE, 0, more);
}

static size_t body_limit(const struct stream *stream)
{
    return stream->call ? stream->call->max_body : UPLOAD_ERROR_MAX;
}

/* Keep what is wanted of a body, and open the stream's window again once half of it is used. */
static int take_body(struct pbs_h2 *h2, struct stream *stream, const struct frame *frame,
                     uint32_t flow_len)
{
    stream->receive_window -= flow_len;
    if (stream->receive_window < 0)
        return broken(h2, PBS_E_FLOW, "the target sent more than a stream's window");
    size_t room = body_limit(stream) - stream->body.len;
    size_t take = frame->len < room ? frame->len : room;
    if (take < frame->len)
        stream->too_large = 1;
    int wanted = stream->call || stream->status >= 300;
    if (wanted) {
        int status = append(&stream->body, frame->payload, take);
        if (status)
            return status;
    }
    stream->unacknowledged += flow_len;
    int download = stream->call && stream->call->mode == PBS_H2_DOWNLOAD;
    if (stream->unacknowledged < (download ? PBS_H2_DOWNLOAD_WINDOW : PBS_H2_INITIAL_WINDOW) / 2)
        return PBS_OK;
    if (frame->flags & FLAG_END_STREAM) /* it needs no more */
        return PBS_OK;
    uint32_t more = (uint32_t)stream->unacknowledged;
    stream->receive_window += more;
    stream->unacknowledged = 0;
    return put_u32(h2, FRAME_WINDOW_UPDATE, stream->id, more);
}

static int cancel(struct pbs_h2 *h2, struct stream *stream, uint32_t at)
{
    int status = put_u32(h2, FRAME_RST_STREAM, stream->id, ERROR_CANCEL);
    if (status)
        return status;
    drop_body(h2, stream); /* or answered() would reset it once more */
    return answered(h2, stream, at, 0);
}

static int on_data(struct pbs_h2 *h2, struct frame *frame)
{
    uint32_t flow_len = frame->len, at;

    int status = strip_padding(h2, frame);
    if (!status)
        status = give_back(h2, flow_len);
    if (status)
        return status;
    struct stream *stream = find_stream(h2, frame->stream, &at);
    if (!stream)
        return check_known(h2, frame->stream);
    if (!stream->status)
        return broken(h2, PBS_E_PROTOCOL, "a body came before its answer's headers");
    status = take_body(h2, stream, frame, flow_len);
    if (status)
        return status;
    if (frame->flags & FLAG_END_STREAM)
        return answered(h2, stream, at, 0);
    return stream->too_large ? cancel(h2, stream, at) : PBS_OK;
}

struct status_reader {
    unsigned status;
    int seen;
    int bad;
};

static void read_status(void *context, const uint8_t *name, size_t name_len, const uint8_t *value,
                        size_t value_len)
{
    struct status_reader *reader = context;

    if (name_len != 7 || memcmp(name, ":status", 7) != 0)
        return;
    if (value_len != 3 || reader->seen) {
        reader->bad = 1;
        return;
    }
    reader->seen = 1;
    for (size_t i = 0; i < 3; i++) {
        if (value[i] < '0' || value[i] > '9')
            reader->bad = 1;
        reader->status = reader->status * 10 + (unsigned)(value[i] - '0');
    }
}

static int on_header_block(struct pbs_h2 *h2, const uint8_t *block, size_t len, uint32_t id,
                           int end_stream)
{
    struct status_reader reader = {0};
    uint32_t at;

    int status = pbs_hpack_decode(h2->hpack, block, len, read_status, &reader);
    if (status)
        return broken(h2, status, "the headers of an answer cannot be decoded");
    struct stream *stream = find_stream(h2, id, &at);
    if (!stream)
        return check_known(h2, id);
    if (stream->status) { /* trailers */
        if (!end_stream || reader.seen || reader.bad)
            return broken(h2, PBS_E_PROTOCOL, "an answer has headers twice");
        return answered(h2, stream, at, 0);
    }
    if (reader.bad || reader.status < 100 || reader.status > 599)
        return broken(h2, PBS_E_PROTOCOL, "an answer without a status");
    if (reader.status < 200) { /* an interim answer; the real one follows */
        if (end_stream)
            return broken(h2, PBS_E_PROTOCOL, "an answer ends before its status");
        return PBS_OK;
    }
    stream->status = reader.status;
    if (end_stream)
        return answered(h2, stream, at, 0);
    if (stream->call && stream->call->mode == PBS_H2_DISCARD && stream->status < 300)
        return cancel(h2, stream, at);
    return PBS_OK;
}

static int on_headers(struct pbs_h2 *h2, struct frame *frame)
{
    int status = strip_padding(h2, frame);
    if (status)
        return status;
    if (frame->flags & FLAG_PRIORITY) {
        if (frame->len < 5)
            return broken(h2, PBS_E_PROTOCOL, "a HEADERS frame is too short for its priority");
        frame->payload += 5;
        frame->len -= 5;
    }
    int end_stream = frame->flags & FLAG_END_STREAM;
    if (frame->flags & FLAG_END_HEADERS)
        return on_header_block(h2, frame->payload, frame->len, frame->stream, end_stream);
    if (frame->stream == 0)
        return broken(h2, PBS_E_PROTOCOL, "a HEADERS frame for no stream");
    h2->headers.len = 0;
    h2->headers_stream = frame->stream;
    h2->headers_end_stream = end_stream;
    return append(&h2->headers, frame->payload, frame->len);
}

static int on_continuation(struct pbs_h2 *h2, struct frame *frame)
{
    if (h2->headers_stream == 0 || frame->stream != h2->headers_stream)
        return broken(h2, PBS_E_PROTOCOL, "a CONTINUATION frame that continues nothing");
    if (h2->headers.len + frame->len > MAX_HEADER_BLOCK)
        return broken(h2, PBS_E_TOO_LARGE, "the headers of an answer are too long");
    int status = append(&h2->headers, frame->payload, frame->len);
    if (status || !(frame->flags & FLAG_END_HEADERS))
        return status;
    h2->headers_stream = 0;
    return on_header_block(h2, h2->headers.data, h2->headers.len, frame->stream,
                           h2->headers_end_stream);
}

/* The peer refused a stream before looking at it, so its request may be made again. */
static void on_refused(struct pbs_h2 *h2, struct stream *stream, uint32_t at)
{
    struct pbs_h2_message *call = stream->call;
    uint64_t job = stream->job;

    h2->state.refused++;
    stream->call = NULL;
    close_stream(h2, stream, at);
    if (!call) {
        pbs_upload_again(h2->upload, job);
        return;
    }
    call->next = h2->calls;
    h2->calls = call;
    if (!call->next)
        h2->calls_end = &call->next;
    h2->state.calls_waiting++;
}

static int on_reset(struct pbs_h2 *h2, struct frame *frame)
{
    uint32_t at;

    if (frame->len != 4)
        return broken(h2, PBS_E_PROTOCOL, "a RST_STREAM frame of a wrong length");
    struct stream *stream = find_stream(h2, frame->stream, &at);
    if (!stream)
        return check_known(h2, frame->stream);
    uint32_t code = pbs_load_be32(frame->payload);
    /* Some refusals follow a lowered stream limit; a peer that refuses most of what it gets will
     * not take it later either. */
    if (code == ERROR_REFUSED_STREAM && !stream->status &&
        h2->state.refused < FEW_REFUSALS + h2->state.requests / 2) {
        on_refused(h2, stream, at);
        return PBS_OK;
    }
    drop_body(h2, stream); /* no RST_STREAM in return */
    return answered(h2, stream, at, code ? code : UINT32_MAX);
}

static int set_initial_window(struct pbs_h2 *h2, uint32_t value)
{
    if (value > MAX_WINDOW)
        return broken(h2, PBS_E_FLOW, "an initial window above 2^31-1");
    int64_t change = (int64_t)value - h2->state.peer_initial_window;
    h2->state.peer_initial_window = value;
    for (uint32_t i = 0; i < h2->state.open_streams; i++) {
        h2->streams[i]->window += change; /* may become negative (RFC 9113, 6.9.2) */
        if (h2->streams[i]->window > MAX_WINDOW)
            return broken(h2, PBS_E_FLOW, "a stream's window above 2^31-1");
    }
    return PBS_OK;
}

static int on_settings(struct pbs_h2 *h2, struct frame *frame)
{
    if (frame->stream != 0 || frame->len % 6 != 0)
        return broken(h2, PBS_E_PROTOCOL, "a malformed SETTINGS frame");
    if (frame->flags & FLAG_ACK)
        return frame->len ? broken(h2, PBS_E_PROTOCOL, "a SETTINGS acknowledgement with content")
                          : PBS_OK;
    for (uint32_t at = 0; at < frame->len; at += 6) {
        uint32_t value = pbs_load_be32(frame->payload + at + 2);
        int status = PBS_OK;
        switch (pbs_load_be16(frame->payload + at)) {
        case SETTING_MAX_CONCURRENT_STREAMS:
            h2->state.peer_max_streams = value;
            break;
        case SETTING_INITIAL_WINDOW_SIZE:
            status = set_initial_window(h2, value);
            break;
        case SETTING_MAX_FRAME_SIZE:
            if (value < OUR_MAX_FRAME || value > 0xffffff)
                return broken(h2, PBS_E_PROTOCOL, "a frame size limit out of range");
            h2->state.peer_frame_size = value;
            break;
        default: /* the table size needs nothing: what we encode never uses the table */
            break;
        }
        if (status)
            return status;
    }
    h2->state.settings_seen = 1;
    return put_control(h2, FRAME_SETTINGS, FLAG_ACK, 0, NULL, 0);
}

static int on_window_update(struct pbs_h2 *h2, struct frame *frame)
{
    uint32_t at;

    if (frame->len != 4)
        return broken(h2, PBS_E_PROTOCOL, "a WINDOW_UPDATE frame of a wrong length");
    uint32_t more = pbs_load_be32(frame->payload) & MAX_WINDOW;
    if (more == 0)
        return broken(h2, PBS_E_PROTOCOL, "a WINDOW_UPDATE of 0");
    if (frame->stream == 0) {
        h2->state.send_window += more;
        if (h2->state.send_window > MAX_WINDOW)
            return broken(h2, PBS_E_FLOW, "the connection's window above 2^31-1");
        return PBS_OK;
    }
    struct stream *stream = find_stream(h2, frame->stream, &at);
    if (!stream)
        return check_known(h2, frame->stream);
    stream->window += more;
    if (stream->window > MAX_WINDOW)
        return broken(h2, PBS_E_FLOW, "a stream's window above 2^31-1");
    return PBS_OK;
}

static int on_ping(struct pbs_h2 *h2, struct frame *frame)
{
    if (frame->stream != 0 || frame->len != 8)
        return broken(h2, PBS_E_PROTOCOL, "a malformed PING frame");
    if (frame->flags & FLAG_ACK)
        return PBS_OK;
    return put_control(h2, FRAME_PING, FLAG_ACK, 0, frame->payload, 8);
}

/* The peer will not look at streams above last_id; there is no other connection to try them on. */
static int leave_out(struct pbs_h2 *h2, uint32_t last_id)
{
    int status = PBS_OK;

    for (uint32_t at = h2->state.open_streams; !status && at-- > 0;) {
        struct stream *stream = h2->streams[at];
        if (stream->id <= last_id)
            break;
        drop_body(h2, stream);
        status = answered(h2, stream, at, ERROR_REFUSED_STREAM);
    }
    return status;
}

static int on_goaway(struct pbs_h2 *h2, struct frame *frame)
{
    if (frame->stream != 0 || frame->len < 8)
        return broken(h2, PBS_E_PROTOCOL, "a malformed GOAWAY frame");
    uint32_t last_id = pbs_load_be32(frame->payload) & MAX_STREAM_ID;
    uint32_t code = pbs_load_be32(frame->payload + 4);
    h2->state.going_away = 1;
    if (code == 0)
        return leave_out(h2, last_id);
    size_t len = frame->len - 8 < 100 ? frame->len - 8 : 100;
    char text[101];
    for (size_t i = 0; i < len; i++) { /* shown to people: printable ASCII only */
        uint8_t byte = frame->payload[8 + i];
        text[i] = byte >= ' ' && byte < 0x7f ? (char)byte : '?';
    }
    text[len] = '\0';
    snprintf(h2->error, sizeof h2->error, "the target ended the connection: error %u%s%s",
             (unsigned)code, len ? ", " : "", text);
    return PBS_E_CLOSED;
}

static int on_frame(struct pbs_h2 *h2, struct frame *frame)
{
    if (h2->headers_stream && frame->type != FRAME_CONTINUATION)
        return broken(h2, PBS_E_PROTOCOL, "a header block is interrupted by another frame");
    if (!h2->state.settings_seen && frame->type != FRAME_SETTINGS)
        return broken(h2, PBS_E_PROTOCOL, "the target does not begin with its HTTP/2 settings");
    switch (frame->type) {
    case FRAME_DATA:
        return on_data(h2, frame);
    case FRAME_HEADERS:
        return on_headers(h2, frame);
    case FRAME_RST_STREAM:
        return on_reset(h2, frame);
    case FRAME_SETTINGS:
        return on_settings(h2, frame);
    case FRAME_PUSH_PROMISE:
        return broken(h2, PBS_E_PROTOCOL, "a push, which we did not allow");
    case FRAME_PING:
        return on_ping(h2, frame);
    case FRAME_GOAWAY:
        return on_goaway(h2, frame);
    case FRAME_WINDOW_UPDATE:
        return on_window_update(h2, frame);
    case FRAME_CONTINUATION:
        return on_continuation(h2, frame);
    default: /* PRIORITY, and types that we do not know, are to be ignored */
        return PBS_OK;
    }
}

/* The length of the frame that begins at data, its header included. */
static int frame_size(struct pbs_h2 *h2, const uint8_t *data, size_t *out)
{
    uint32_t len = pbs_load_be24(data);

    if (len > OUR_MAX_FRAME)
        return broken(h2, PBS_E_PROTOCOL, h2->state.settings_seen
                                              ? "a frame longer than we allow"
                                              : "the target does not speak HTTP/2");
    *out = PBS_FRAME_HEADER + len;
    return PBS_OK;
}

static int parse_frame(struct pbs_h2 *h2, const uint8_t *data)
{
    struct frame frame = {
        .len = pbs_load_be24(data),
        .type = data[3],
        .flags = data[4],
        .stream = pbs_load_be32(data + 5) & MAX_STREAM_ID,
        .payload = data + PBS_FRAME_HEADER,
    };
    return on_frame(h2, &frame);
}

/* Complete the frame of which a part came before. Returns how much of data it took in *taken. */
static int finish_input(struct pbs_h2 *h2, const uint8_t *data, size_t len, size_t *taken)
{
    size_t want = PBS_FRAME_HEADER, used = 0;

    for (;;) {
        int status = PBS_OK;
        if (h2->input.len >= PBS_FRAME_HEADER)
            status = frame_size(h2, h2->input.data, &want);
        if (status)
            return status;
        size_t missing = want - h2->input.len;
        size_t take = missing < len - used ? missing : len - used;
        status = append(&h2->input, data + used, take);
        if (status)
            return status;
        used += take;
        *taken = used;
        if (h2->input.len < want)
            return PBS_OK;
        if (want > PBS_FRAME_HEADER || pbs_load_be24(h2->input.data) == 0)
            break;
    }
    h2->input.len = 0;
    return parse_frame(h2, h2->input.data);
}

static int receive(struct pbs_h2 *h2, const uint8_t *data, size_t len)
{
    size_t at = 0;

    if (h2->input.len) {
        int status = finish_input(h2, data, len, &at);
        if (status)
            return status;
    }
    while (len - at >= PBS_FRAME_HEADER) {
        size_t size;
        int status = frame_size(h2, data + at, &size);
        if (status)
            return status;
        if (size > len - at)
            break;
        status = parse_frame(h2, data + at);
        if (status)
            return status;
        at += size;
    }
    return append(&h2->input, data + at, len - at);
}

int pbs_h2_receive(struct pbs_h2 *h2, const uint8_t *data, size_t len)
{
    if (h2->failed)
        return h2->failed;
    settle(h2); /* what is freed below may be what the last output lay in */
    h2->state.received_bytes += len;
    h2->failed = receive(h2, data, len);
    return h2->failed;
}
