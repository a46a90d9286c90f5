#include "pbs_h2_streams.h"

#include <stdlib.h>
#include <string.h>

#include "pbs_error.h"

/* ---- windows ---- */

int pbs_h2_send_window_change(int64_t *window, int64_t change)
{
    *window += change;
    return *window > PBS_H2_MAX_WINDOW ? PBS_E_FLOW : PBS_OK;
}

void pbs_h2_receive_window_widen(struct pbs_h2_receive_window *window, uint32_t more)
{
    window->left += more;
    window->grant = more;
}

int pbs_h2_receive_window_use(struct pbs_h2_receive_window *window, uint32_t len,
                              uint32_t *out_more)
{
    window->left -= len;
    if (window->left < 0)
        return PBS_E_FLOW;
    window->used += len; /* at most what was left: no overflow */
    *out_more = 0;
    if (window->used < window->grant - window->grant / 2)
        return PBS_OK;
    *out_more = window->used;
    window->left += window->used;
    window->used = 0;
    return PBS_OK;
}

/* ---- streams ---- */

void pbs_h2_streams_init(struct pbs_h2_streams *streams)
{
    *streams = (struct pbs_h2_streams){
        .next_id = 1,
        .peer_max_streams = PBS_H2_MAX_STREAMS,
        .peer_frame_size = PBS_H2_LEAST_FRAME,
        .peer_initial_window = PBS_H2_DEFAULT_WINDOW,
        .send_window = PBS_H2_DEFAULT_WINDOW,
    };
    pbs_h2_receive_window_widen(&streams->receive_window, PBS_H2_MAX_WINDOW);
}

static void stream_free(struct pbs_h2_stream *stream)
{
    if (!stream)
        return;
    pbs_h2_message_free(stream->call);
    free(stream->body.data);
    free(stream);
}

void pbs_h2_streams_free(struct pbs_h2_streams *streams)
{
    for (uint32_t i = 0; i < streams->n_open; i++)
        stream_free(streams->open[i]);
    stream_free(streams->spare);
}

int pbs_h2_streams_used_up(const struct pbs_h2_streams *streams)
{
    return streams->next_id > PBS_H2_MAX_STREAM_ID;
}

int pbs_h2_streams_may_open(const struct pbs_h2_streams *streams)
{
    return streams->n_open < streams->peer_max_streams && streams->n_open < PBS_H2_MAX_STREAMS &&
           !pbs_h2_streams_used_up(streams);
}

int pbs_h2_streams_known(const struct pbs_h2_streams *streams, uint32_t id)
{
    return id % 2 == 1 && id < streams->next_id;
}

struct pbs_h2_stream *pbs_h2_streams_find(struct pbs_h2_streams *streams, uint32_t id,
                                          uint32_t *out_at)
{
    /* Answers come roughly in the order of the requests, so this looks at one or two. */
    for (uint32_t i = 0; i < streams->n_open && streams->open[i]->id <= id; i++)
        if (streams->open[i]->id == id) {
            *out_at = i;
            return streams->open[i];
        }
    return NULL;
}

int pbs_h2_streams_open(struct pbs_h2_streams *streams, const struct pbs_message *out,
                        struct pbs_h2_stream **out_stream)
{
    struct pbs_h2_stream *stream = streams->spare;
    struct pbs_buffer body = {0};

    if (stream) {
        streams->spare = NULL;
        body = (struct pbs_buffer){stream->body.data, 0, stream->body.capacity};
    } else {
        stream = malloc(sizeof *stream);
        if (!stream)
            return PBS_E_NOMEM;
    }
    *stream = (struct pbs_h2_stream){
        .id = streams->next_id,
        .window = streams->peer_initial_window,
        .out = *out,
        .body = body,
    };
    pbs_h2_receive_window_widen(&stream->receive_window, PBS_H2_INITIAL_WINDOW);
    streams->next_id += 2;
    streams->open[streams->n_open++] = stream;
    if (pbs_h2_stream_unsent(stream))
        streams->n_sending++;
    *out_stream = stream;
    return PBS_OK;
}

void pbs_h2_streams_close(struct pbs_h2_streams *streams, uint32_t at)
{
    struct pbs_h2_stream *stream = streams->open[at];

    pbs_h2_streams_drop_body(streams, stream);
    streams->n_open--;
    memmove(&streams->open[at], &streams->open[at + 1],
            (streams->n_open - at) * sizeof streams->open[0]);
    if (streams->spare) {
        stream_free(stream);
        return;
    }
    pbs_h2_message_free(stream->call);
    stream->call = NULL;
    streams->spare = stream;
}

size_t pbs_h2_streams_sendable(const struct pbs_h2_streams *streams,
                               const struct pbs_h2_stream *stream, size_t most)
{
    size_t n = stream->out.body_len - stream->sent;

    if (n > most)
        n = most;
    if (n > streams->peer_frame_size)
        n = streams->peer_frame_size;
    if (stream->window <= 0 || streams->send_window <= 0)
        return 0;
    if ((int64_t)n > stream->window)
        n = (size_t)stream->window;
    if ((int64_t)n > streams->send_window)
        n = (size_t)streams->send_window;
    return n;
}

void pbs_h2_streams_sent(struct pbs_h2_streams *streams, struct pbs_h2_stream *stream, size_t n)
{
    stream->sent += n;
    stream->window -= (int64_t)n;
    streams->send_window -= (int64_t)n;
    if (!pbs_h2_stream_unsent(stream))
        streams->n_sending--;
}

void pbs_h2_streams_drop_body(struct pbs_h2_streams *streams, struct pbs_h2_stream *stream)
{
    if (!pbs_h2_stream_unsent(stream))
        return;
    stream->sent = stream->out.body_len;
    streams->n_sending--;
}

void pbs_h2_stream_drop_sent(struct pbs_h2_stream *stream)
{
    stream->call = pbs_h2_message_drop_body(stream->call);
    stream->out.start = stream->call->message.start;
}

int pbs_h2_stream_is_whole(const struct pbs_h2_stream *stream)
{
    return !stream->call || stream->call->message.body_len == stream->out.body_len;
}

size_t pbs_h2_streams_unsent_calls(const struct pbs_h2_streams *streams)
{
    size_t bytes = 0;

    for (uint32_t i = 0; streams->n_sending && i < streams->n_open; i++)
        if (streams->open[i]->call)
            bytes += streams->open[i]->out.body_len - streams->open[i]->sent;
    return bytes;
}

int pbs_h2_streams_set_initial_window(struct pbs_h2_streams *streams, uint32_t value)
{
    int64_t change = (int64_t)value - streams->peer_initial_window;

    streams->peer_initial_window = value;
    for (uint32_t i = 0; i < streams->n_open; i++)
        if (pbs_h2_send_window_change(&streams->open[i]->window, change))
            return PBS_E_FLOW;
    return PBS_OK;
}
