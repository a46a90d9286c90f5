#include "pbs_h2_sending.h"

#include <string.h>

#include "pbs_error.h"

/* A download's stream gets this much more of a window. */
#define DOWNLOAD_WINDOW (16u << 20)

void pbs_h2_settle(struct pbs_h2 *h2)
{
    struct pbs_h2_output *output = &h2->output;
    uint64_t slot;

    if (output->saved_at) {
        memcpy(output->saved_at, output->saved, PBS_FRAME_HEADER);
        output->saved_at = NULL;
    }
    for (size_t at = 0; at < output->finished.len; at += sizeof slot) {
        memcpy(&slot, output->finished.data + at, sizeof slot);
        pbs_upload_release(h2->upload, slot);
    }
    output->finished.len = 0;
    if (output->sent_once) {
        pbs_h2_stream_drop_sent(output->sent_once);
        output->sent_once = NULL;
    }
    if (output->control_taken) {
        h2->control.len -= output->control_taken;
        memmove(h2->control.data, h2->control.data + output->control_taken, h2->control.len);
        output->control_taken = 0;
    }
}

static int may_open(const struct pbs_h2 *h2)
{
    return !h2->going_away && pbs_h2_streams_may_open(&h2->streams);
}

/* How much of a stream's body one frame may carry now. */
static size_t sendable(const struct pbs_h2 *h2, const struct pbs_h2_stream *stream)
{
    size_t left = h2->output.body_left;

    return pbs_h2_streams_sendable(&h2->streams, stream,
                                   left < h2->frame_size ? left : h2->frame_size);
}

/* Account for n bytes of body that the output being made carries. */
static int count_sent(struct pbs_h2 *h2, struct pbs_h2_stream *stream, size_t n)
{
    pbs_h2_streams_sent(&h2->streams, stream, n);
    h2->sent_bytes += n;
    h2->output.body_left -= n;
    if (pbs_h2_stream_unsent(stream))
        return PBS_OK;
    if (stream->call && stream->call->once)
        h2->output.sent_once = stream;
    if (!stream->holds_slot)
        return PBS_OK;
    stream->holds_slot = 0;
    return pbs_buffer_append(&h2->output.finished, &stream->slot, sizeof stream->slot);
}

/* Begin a stream: its HEADERS, and if a window is open, its first DATA frame behind them. */
static int first_output(struct pbs_h2 *h2, struct pbs_h2_stream *stream, size_t *out_len)
{
    uint8_t *start = stream->out.start;
    size_t n = sendable(h2, stream);

    pbs_store_be32(start + 5, stream->id);
    if (stream->out.body_len == 0)
        start[4] |= PBS_H2_END_STREAM;
    *out_len = stream->out.head_len;
    if (n == 0)
        return PBS_OK;
    pbs_h2_put_frame_header(start + stream->out.head_len, n, PBS_H2_DATA,
                            n == stream->out.body_len ? PBS_H2_END_STREAM : 0, stream->id);
    *out_len += PBS_FRAME_HEADER + n;
    return count_sent(h2, stream, n);
}

/* The next DATA frame of a stream that has begun. */
static int next_data(struct pbs_h2 *h2, struct pbs_h2_stream *stream, size_t n, const uint8_t **out,
                     size_t *out_len)
{
    /* The body begins PBS_FRAME_HEADER bytes behind the head, so this is in front of the rest. */
    uint8_t *header = stream->out.start + stream->out.head_len + stream->sent;
    int last = stream->sent + n == stream->out.body_len;

    memcpy(h2->output.saved, header, PBS_FRAME_HEADER);
    h2->output.saved_at = header;
    pbs_h2_put_frame_header(header, n, PBS_H2_DATA, last ? PBS_H2_END_STREAM : 0, stream->id);
    *out = header;
    *out_len = PBS_FRAME_HEADER + n;
    return count_sent(h2, stream, n);
}

/* A frame of the oldest stream that can send one: of a call, or of an upload. */
static int send_more(struct pbs_h2 *h2, int of_call, const uint8_t **out, size_t *out_len)
{
    for (uint32_t i = 0; h2->streams.n_sending && i < h2->streams.n_open; i++) {
        struct pbs_h2_stream *stream = h2->streams.open[i];
        if (!pbs_h2_stream_unsent(stream) || (stream->call != NULL) != of_call)
            continue;
        size_t n = sendable(h2, stream);
        if (n > 0)
            return next_data(h2, stream, n, out, out_len);
    }
    return PBS_OK;
}

/* The window goes out right after the HEADERS. */
static int open_download_window(struct pbs_h2 *h2, struct pbs_h2_stream *stream)
{
    pbs_h2_receive_window_widen(&stream->receive_window, DOWNLOAD_WINDOW);
    return pbs_h2_put_u32(h2, PBS_H2_WINDOW_UPDATE, stream->id, DOWNLOAD_WINDOW);
}

static int send_call(struct pbs_h2 *h2, const uint8_t **out, size_t *out_len)
{
    struct pbs_h2_stream *stream;

    if (!h2->calls.first || !may_open(h2))
        return PBS_OK;
    int status = pbs_h2_streams_open(&h2->streams, &h2->calls.first->message, &stream);
    if (status)
        return status;
    stream->call = pbs_h2_calls_pop(&h2->calls);
    if (stream->call->mode == PBS_H2_DOWNLOAD)
        status = open_download_window(h2, stream);
    *out = stream->out.start;
    return status ? status : first_output(h2, stream, out_len);
}

/* Begin as many uploads as lie back to back, up to the span's size. */
static int send_uploads(struct pbs_h2 *h2, const uint8_t **out, size_t *out_len)
{
    struct pbs_upload_piece piece;
    struct pbs_h2_stream *stream;
    size_t len = 0;

    if (!h2->upload)
        return PBS_OK;
    while (len < h2->span_size && h2->output.body_left && may_open(h2)) {
        /* With closed windows a stream gains nothing by being open, unless it is the only one: a
         * peer may open a stream's window only once it knows of the stream. */
        if (h2->streams.n_sending && (h2->streams.send_window <= 0 || len))
            break;
        if (!pbs_upload_next(h2->upload, len ? *out + len : NULL, &piece))
            break;
        int status = pbs_h2_streams_open(&h2->streams, &piece.message, &stream);
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

int pbs_h2_next_output(struct pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len)
{
    int status = PBS_OK;

    *out_len = 0;
    h2->output.body_left = max_body;
    if (h2->upload)
        pbs_upload_clear_event(h2->upload);
    if (h2->control.len) {
        *out = h2->control.data;
        *out_len = h2->output.control_taken = h2->control.len;
        return PBS_OK;
    }
    /* Calls before chunks: they are small, and what follows them waits for their answers. */
    status = send_more(h2, 1, out, out_len);
    if (!status && !*out_len)
        status = send_call(h2, out, out_len);
    if (!status && !*out_len)
        status = send_more(h2, 0, out, out_len);
    if (!status && !*out_len)
        status = send_uploads(h2, out, out_len);
    return status;
}
