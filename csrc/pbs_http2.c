#include "pbs_http2.h"

#include <stdlib.h>

#include "pbs_error.h"
#include "pbs_h2_connection.h"
#include "pbs_h2_receiving.h"
#include "pbs_h2_sending.h"

int pbs_h2_new(const struct pbs_h2_options *options, struct pbs_h2 **out)
{
    if (options->frame_size == 0 || options->span_size == 0)
        return PBS_E_INVALID;
    struct pbs_h2 *h2 = calloc(1, sizeof *h2);
    if (!h2)
        return PBS_E_NOMEM;
    h2->frame_size = options->frame_size;
    h2->span_size = options->span_size;
    pbs_h2_streams_init(&h2->streams);
    pbs_h2_calls_init(&h2->calls);
    pbs_h2_answers_init(&h2->answers);
    int status = pbs_hpack_new(&h2->hpack);
    if (!status)
        status = pbs_h2_put_preface(h2);
    if (status) {
        pbs_h2_free(h2);
        return status;
    }
    *out = h2;
    return PBS_OK;
}

void pbs_h2_free(struct pbs_h2 *h2)
{
    if (!h2)
        return;
    pbs_h2_streams_free(&h2->streams);
    pbs_h2_calls_free(&h2->calls);
    pbs_h2_answers_free(&h2->answers);
    pbs_h2_reader_free(&h2->reader);
    pbs_hpack_free(h2->hpack);
    free(h2->block.bytes.data);
    free(h2->control.data);
    free(h2->output.finished.data);
    free(h2);
}

void pbs_h2_attach(struct pbs_h2 *h2, struct pbs_upload *upload)
{
    h2->upload = upload;
}

void pbs_h2_submit(struct pbs_h2 *h2, struct pbs_h2_message *message, size_t body_len)
{
    message->message.body_len = body_len;
    pbs_h2_calls_push(&h2->calls, message);
}

int pbs_h2_receive(struct pbs_h2 *h2, const uint8_t *data, size_t len)
{
    if (h2->failed)
        return h2->failed;
    pbs_h2_settle(h2); /* what is freed below may be what the last output lay in */
    h2->failed = pbs_h2_take_input(h2, data, len);
    return h2->failed;
}

int pbs_h2_send(struct pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len)
{
    const uint8_t *data = NULL;
    size_t len;

    if (h2->failed)
        return h2->failed;
    if (max_body == 0)
        return PBS_E_INVALID;
    pbs_h2_settle(h2);
    h2->failed = pbs_h2_next_output(h2, max_body, &data, &len);
    if (h2->failed)
        return h2->failed;
    *out = data;
    *out_len = len;
    return PBS_OK;
}

size_t pbs_h2_unsent_calls(const struct pbs_h2 *h2)
{
    return pbs_h2_calls_bytes(&h2->calls) + pbs_h2_streams_unsent_calls(&h2->streams);
}

int pbs_h2_next_answer(struct pbs_h2 *h2, struct pbs_h2_answer *out)
{
    return pbs_h2_answers_pop(&h2->answers, out);
}

void pbs_h2_state(const struct pbs_h2 *h2, struct pbs_h2_state *out)
{
    *out = (struct pbs_h2_state){
        .sent_bytes = h2->sent_bytes,
        .received_bytes = h2->received_bytes,
        .uploads_done = h2->uploads_done,
        .uploads_bytes = h2->uploads_bytes,
        .requests = pbs_h2_streams_opened(&h2->streams),
        .refused = h2->refused,
        .open_streams = h2->streams.n_open,
        .calls_waiting = h2->calls.n,
        .peer_max_streams = h2->streams.peer_max_streams,
        .peer_frame_size = h2->streams.peer_frame_size,
        .peer_initial_window = h2->streams.peer_initial_window,
        .send_window = h2->streams.send_window,
        .settings_seen = h2->settings_seen,
        .settings_acked = h2->settings_acked,
        .going_away = h2->going_away || pbs_h2_streams_used_up(&h2->streams),
    };
}

const char *pbs_h2_error(const struct pbs_h2 *h2)
{
    return h2->error;
}
