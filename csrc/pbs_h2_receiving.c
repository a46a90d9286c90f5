#include "pbs_h2_receiving.h"

#include <stdio.h>

#include "pbs_error.h"
#include "pbs_h2_answering.h"

static int take_setting(struct pbs_h2 *h2, unsigned name, uint32_t value)
{
    switch (name) {
    case PBS_H2_MAX_CONCURRENT_STREAMS:
        h2->streams.peer_max_streams = value;
        return PBS_OK;
    case PBS_H2_INITIAL_WINDOW_SIZE:
        if (value > PBS_H2_MAX_WINDOW)
            return pbs_h2_broken(h2, PBS_E_FLOW, "an initial window above 2^31-1");
        if (pbs_h2_streams_set_initial_window(&h2->streams, value))
            return pbs_h2_broken(h2, PBS_E_FLOW, "a stream's window above 2^31-1");
        return PBS_OK;
    case PBS_H2_MAX_FRAME_SIZE:
        if (value < PBS_H2_LEAST_FRAME || value > PBS_H2_MOST_FRAME)
            return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a frame size limit out of range");
        h2->streams.peer_frame_size = value;
        return PBS_OK;
    default: /* the table size needs nothing: what we encode never uses the table */
        return PBS_OK;
    }
}

static int on_settings(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    if (frame->stream != 0 || frame->len % 6 != 0)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a malformed SETTINGS frame");
    if (frame->flags & PBS_H2_ACK) {
        h2->settings_acked = 1;
        return frame->len
                   ? pbs_h2_broken(h2, PBS_E_PROTOCOL, "a SETTINGS acknowledgement with content")
                   : PBS_OK;
    }
    for (uint32_t at = 0; at < frame->len; at += 6) {
        int status = take_setting(h2, pbs_load_be16(frame->payload + at),
                                  pbs_load_be32(frame->payload + at + 2));
        if (status)
            return status;
    }
    h2->settings_seen = 1;
    return pbs_h2_put(h2, PBS_H2_SETTINGS, PBS_H2_ACK, 0, NULL, 0);
}

static int on_window_update(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    uint32_t at;

    if (frame->len != 4)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a WINDOW_UPDATE frame of a wrong length");
    uint32_t more = pbs_load_be32(frame->payload) & PBS_H2_MAX_WINDOW;
    if (more == 0)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a WINDOW_UPDATE of 0");
    if (frame->stream == 0) {
        if (pbs_h2_send_window_change(&h2->streams.send_window, more))
            return pbs_h2_broken(h2, PBS_E_FLOW, "the connection's window above 2^31-1");
        return PBS_OK;
    }
    struct pbs_h2_stream *stream = pbs_h2_streams_find(&h2->streams, frame->stream, &at);
    if (!stream)
        return pbs_h2_check_known(h2, frame->stream);
    if (pbs_h2_send_window_change(&stream->window, more))
        return pbs_h2_broken(h2, PBS_E_FLOW, "a stream's window above 2^31-1");
    return PBS_OK;
}

static int on_ping(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    if (frame->stream != 0 || frame->len != 8)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a malformed PING frame");
    if (frame->flags & PBS_H2_ACK)
        return PBS_OK;
    return pbs_h2_put(h2, PBS_H2_PING, PBS_H2_ACK, 0, frame->payload, 8);
}

static int on_goaway(struct pbs_h2 *h2, const struct pbs_h2_frame *frame)
{
    if (frame->stream != 0 || frame->len < 8)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a malformed GOAWAY frame");
    uint32_t last_id = pbs_load_be32(frame->payload) & PBS_H2_MAX_STREAM_ID;
    uint32_t code = pbs_load_be32(frame->payload + 4);
    h2->going_away = 1;
    if (code == 0)
        return pbs_h2_leave_out(h2, last_id);
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

static int on_frame(struct pbs_h2 *h2, struct pbs_h2_frame *frame)
{
    if (h2->block.stream && frame->type != PBS_H2_CONTINUATION)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a header block is interrupted by another frame");
    if (!h2->settings_seen && frame->type != PBS_H2_SETTINGS)
        return pbs_h2_broken(h2, PBS_E_PROTOCOL,
                             "the target does not begin with its HTTP/2 settings");
    switch (frame->type) {
    case PBS_H2_DATA:
        return pbs_h2_on_data(h2, frame);
    case PBS_H2_HEADERS:
        return pbs_h2_on_headers(h2, frame);
    case PBS_H2_RST_STREAM:
        return pbs_h2_on_reset(h2, frame);
    case PBS_H2_SETTINGS:
        return on_settings(h2, frame);
    case PBS_H2_PUSH_PROMISE:
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a push, which we did not allow");
    case PBS_H2_PING:
        return on_ping(h2, frame);
    case PBS_H2_GOAWAY:
        return on_goaway(h2, frame);
    case PBS_H2_WINDOW_UPDATE:
        return on_window_update(h2, frame);
    case PBS_H2_CONTINUATION:
        return pbs_h2_on_continuation(h2, frame);
    default: /* PRIORITY, and types that we do not know, are to be ignored */
        return PBS_OK;
    }
}

int pbs_h2_take_input(struct pbs_h2 *h2, const uint8_t *data, size_t len)
{
    struct pbs_h2_frame frame;
    int found;

    pbs_h2_reader_give(&h2->reader, data, len);
    for (;;) {
        int status = pbs_h2_reader_next(&h2->reader, &frame, &found);
        if (status == PBS_E_PROTOCOL)
            return pbs_h2_broken(h2, status,
                                 h2->settings_seen ? "a frame longer than we allow"
                                                   : "the target does not speak HTTP/2");
        if (!status && found)
            status = on_frame(h2, &frame);
        if (status || !found)
            return status;
    }
}
