#include "pbs_h2_answering.h"

#include <string.h>

#include "pbs_error.h"

#define MAX_HEADER_BLOCK 65536u

/* Refused streams that are always tolerated: twice what a server allows at once. */
#define FEW_REFUSALS 400u
/* Why an upload failed is told in a line; of what else is refused, this much is looked at. */
#define UPLOAD_ERROR_MAX 4096u
#define CALL_ERROR_MAX (64u << 10)

/* ---- the end of a stream ---- */

static void close_stream(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t at)
{
    if (stream->holds_slot)
        pbs_upload_release(h2->upload, stream->slot);
    stream->holds_slot = 0;
    pbs_h2_streams_close(&h2->streams, at);
}

static int add_answer(struct pbs_h2 *h2, struct pbs_h2_stream *stream, unsigned http_status,
                      uint32_t reset_code, int is_part)
{
    struct pbs_h2_answer answer = {
        .tag = stream->call ? stream->call->tag : 0,
        .is_upload = stream->call == NULL,
        .job = stream->job,
        .status = http_status,
        .reset_code = reset_code,
        .is_part = is_part,
        .body_too_large = stream->too_large,
        .body = stream->body.data,
        .body_len = stream->body.len,
    };

    int status = pbs_h2_answers_push(&h2->answers, &answer);
    if (!status)
        stream->body = (struct pbs_buffer){0};
    return status;
}

/* The stream has all of its answer, or will get no more of it. */
static int answered(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t at,
                    uint32_t reset_code)
{
    unsigned code = reset_code == 0 || stream->status >= 300 ? stream->status : 0;
    int status = PBS_OK;

    if (!stream->call && code >= 200 && code < 300) {
        h2->uploads_done++;
        h2->uploads_bytes += stream->out.body_len;
        pbs_upload_acknowledge(h2->upload, stream->job);
    } else {
        status = add_answer(h2, stream, code, reset_code, 0);
    }
    if (!status && pbs_h2_stream_unsent(stream)) /* the peer did not wait for the body */
        status = pbs_h2_put_u32(h2, PBS_H2_RST_STREAM, stream->id, PBS_H2_CANCEL);
    close_stream(h2, stream, at);
    return status;
}

/* The peer ended the stream: no RST_STREAM in return. */
static int ended(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t at, uint32_t reset_code)
{
    pbs_h2_streams_drop_body(&h2->streams, stream);
    return answered(h2, stream, at, reset_code);
}

/* We know enough of the answer. */
static int cancel(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t at)
{
    int status = pbs_h2_put_u32(h2, PBS_H2_RST_STREAM, stream->id, PBS_H2_CANCEL);

    return status ? status : ended(h2, stream, at, 0);
}

/* The peer refused a stream before looking at it, so its request may be made again. */
static void refused(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t at)
{
    struct pbs_h2_message *call = stream->call;
    uint64_t job = stream->job;

    h2->refused++;
    stream->call = NULL;
    close_stream(h2, stream, at);
    if (call)
        pbs_h2_calls_push_front(&h2->calls, call);
    else
        pbs_upload_again(h2->upload, job);
}

/* Some refusals follow a lowered stream limit; a peer that refuses most of what it gets will not
 * take it later either. */
static int may_try_again(const struct pbs_h2 *h2)
{
    return h2->refused < FEW_REFUSALS + pbs_h2_streams_opened(&h2->streams) / 2;
}

int pbs_h2_on_reset(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    uint32_t at;

    if (frame->len != 4)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a RST_STREAM frame of a wrong length");
    struct pbs_h2_stream *stream = pbs_h2_streams_find(&h2->streams, frame->stream, &at);
    if (!stream)
        return pbs_h2_check_known(h2, frame->stream);
    uint32_t code = pbs_load_be32(frame->payload);
    if (code == PBS_H2_REFUSED_STREAM && !stream->status && pbs_h2_stream_is_whole(stream) &&
        may_try_again(h2)) {
        refused(h2, stream, at);
        return PBS_OK;
    }
    return ended(h2, stream, at, code ? code : UINT32_MAX);
}

int pbs_h2_leave_out(struct pbs_h2 *h2, uint32_t last_id)
{
    int status = PBS_OK;

    for (uint32_t at = h2->streams.n_open; !status && at-- > 0;) {
        struct pbs_h2_stream *stream = h2->streams.open[at];
        if (stream->id <= last_id)
            break;
        status = ended(h2, stream, at, PBS_H2_REFUSED_STREAM);
    }
    return status;
}

/* ---- bodies ---- */

static int strip_padding(struct pbs_h2 *h2, struct pbs_h2_frame *frame)
{
    if (!(frame->flags & PBS_H2_PADDED))
        return PBS_OK;
    if (frame->len < 1 || frame->payload[0] > frame->len - 1)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a frame's padding is longer than the frame");
    uint8_t padding = frame->payload[0];
    frame->payload++;
    frame->len -= 1u + padding;
    return PBS_OK;
}

/* Let the connection's window follow what the frame used of it. */
static int use_connection_window(struct pbs_h2 *h2, uint32_t flow_len)
{
    uint32_t more;

    if (pbs_h2_receive_window_use(&h2->streams.receive_window, flow_len, &more))
        return pbs_h2_broken(h2, PBS_E_FLOW, "the target sent more than the connection's window");
    return more ? pbs_h2_put_u32(h2, PBS_H2_WINDOW_UPDATE, 0, more) : PBS_OK;
}

/* Likewise the stream's, unless it needs no more. */
static int use_stream_window(struct pbs_h2 *h2, struct pbs_h2_stream *stream, uint32_t flow_len,
                             int end_stream)
{
    uint32_t more;

    if (pbs_h2_receive_window_use(&stream->receive_window, flow_len, &more))
        return pbs_h2_broken(h2, PBS_E_FLOW, "the target sent more than a stream's window");
    return more && !end_stream ? pbs_h2_put_u32(h2, PBS_H2_WINDOW_UPDATE, stream->id, more)
                               : PBS_OK;
}

/* How much of a body is wanted. */
static size_t body_limit(const struct pbs_h2_stream *stream)
{
    if (!stream->call)
        return UPLOAD_ERROR_MAX;
    size_t max = stream->call->max_body;
    return stream->status >= 300 && max > CALL_ERROR_MAX ? CALL_ERROR_MAX : max;
}

/* Keep what is wanted of a body. */
static int keep_body(struct pbs_h2 *h2, struct pbs_h2_stream *stream,
                     const struct pbs_h2_frame *frame)
{
    size_t room = body_limit(stream) - stream->parts - stream->body.len;
    size_t take = frame->len < room ? frame->len : room;

    if (take < frame->len)
        stream->too_large = 1;
    if (!stream->call && stream->status < 300)
        return PBS_OK;
    h2->received_bytes += take;
    return pbs_buffer_append(&stream->body, frame->payload, take);
}

/* Tell a part of the answer, if there is one. */
static int tell_part(struct pbs_h2 *h2, struct pbs_h2_stream *stream)
{
    if (!stream->call || !stream->call->part_size || stream->status >= 300 ||
        stream->body.len < stream->call->part_size)
        return PBS_OK;
    stream->parts += stream->body.len;
    return add_answer(h2, stream, stream->status, 0, 1);
}

int pbs_h2_on_data(struct pbs_h2 *h2, struct pbs_h2_frame *frame)
{
    uint32_t flow_len = frame->len, at;
    int end_stream = frame->flags & PBS_H2_END_STREAM;

    int status = strip_padding(h2, frame);
    if (!status)
        status = use_connection_window(h2, flow_len);
    if (status)
        return status;
    struct pbs_h2_stream *stream = pbs_h2_streams_find(&h2->streams, frame->stream, &at);
    if (!stream)
        return pbs_h2_check_known(h2, frame->stream);
    if (!stream->status)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a body came before its answer's headers");
    status = use_stream_window(h2, stream, flow_len, end_stream);
    if (!status)
        status = keep_body(h2, stream, frame);
    if (status)
        return status;
    if (end_stream)
        return answered(h2, stream, at, 0);
    return stream->too_large ? cancel(h2, stream, at) : tell_part(h2, stream);
}

/* ---- headers ---- */

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

static int on_block(struct pbs_h2 *h2, const uint8_t *block, size_t len, uint32_t id,
                    int end_stream)
{
    struct status_reader reader = {0};
    uint32_t at;

    int status = pbs_hpack_decode(h2->hpack, block, len, read_status, &reader);
    if (status == PBS_E_NOMEM) /* not the peer's fault */
        return status;
    if (status)
        return pbs_h2_broken(h2, status, "the headers of an answer cannot be decoded");
    struct pbs_h2_stream *stream = pbs_h2_streams_find(&h2->streams, id, &at);
    if (!stream)
        return pbs_h2_check_known(h2, id);
    if (stream->status) { /* trailers */
        if (!end_stream || reader.seen || reader.bad)
            return pbs_h2_broken(h2, PBS_E_PROTOCOL, "an answer has headers twice");
        return answered(h2, stream, at, 0);
    }
    if (reader.bad || reader.status < 100 || reader.status > 599)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "an answer without a status");
    if (reader.status < 200) { /* an interim answer; the real one follows */
        if (end_stream)
            return pbs_h2_broken(h2, PBS_E_PROTOCOL, "an answer ends before its status");
        return PBS_OK;
    }
    stream->status = reader.status;
    if (end_stream)
        return answered(h2, stream, at, 0);
    if (stream->call && stream->call->mode == PBS_H2_DISCARD && stream->status < 300)
        return cancel(h2, stream, at);
    return PBS_OK;
}

int pbs_h2_on_headers(struct pbs_h2 *h2, struct pbs_h2_frame *frame)
{
    int status = strip_padding(h2, frame);
    if (status)
        return status;
    if (frame->flags & PBS_H2_HAS_PRIORITY) {
        if (frame->len < 5)
            return pbs_h2_broken(h2, PBS_E_PROTOCOL,
                                 "a HEADERS frame is too short for its priority");
        frame->payload += 5;
        frame->len -= 5;
    }
    int end_stream = frame->flags & PBS_H2_END_STREAM;
    if (frame->flags & PBS_H2_END_HEADERS)
        return on_block(h2, frame->payload, frame->len, frame->stream, end_stream);
    if (frame->stream == 0)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a HEADERS frame for no stream");
    h2->block.bytes.len = 0;
    h2->block.stream = frame->stream;
    h2->block.end_stream = end_stream;
    return pbs_buffer_append(&h2->block.bytes, frame->payload, frame->len);
}

int pbs_h2_on_continuation(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    struct pbs_h2_block *block = &h2->block;

    if (block->stream == 0 || frame->stream != block->stream)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a CONTINUATION frame that continues nothing");
    if (block->bytes.len + frame->len > MAX_HEADER_BLOCK)
        return pbs_h2_broken(h2, PBS_E_TOO_LARGE, "the headers of an answer are too long");
    int status = pbs_buffer_append(&block->bytes, frame->payload, frame->len);
    if (status || !(frame->flags & PBS_H2_END_HEADERS))
        return status;
    block->stream = 0;
    return on_block(h2, block->bytes.data, block->bytes.len, frame->stream, block->end_stream);
}
