/* A server that takes every upload, but for one that it refuses at first. */
#ifndef PBS_TESTS_SERVER_H
#define PBS_TESTS_SERVER_H

#include <poll.h>
#include <stdatomic.h>

#include "pbs_upload.h"
#include "wire.h"

static inline int send_everything(struct pbs_h2 *h2)
{
    const uint8_t *out;
    size_t len;
    int status;
    do {
        status = pbs_h2_send(h2, SIZE_MAX, &out, &len);
        for (size_t i = 0; !status && i < len; i++)
            (void)*(const volatile uint8_t *)(out + i);
    } while (!status && len);
    return status;
}

/* Until all jobs are acknowledged, or an upload that was stopped or failed brings no more, or the
 * connection is beyond use: then its status, else PBS_OK. */
static inline int serve_uploads(struct pbs_h2 *h2, struct pbs_upload *upload,
                                const atomic_int *stop)
{
    struct pollfd ready = {.fd = pbs_upload_event_fd(upload), .events = POLLIN};
    struct wire in = {0};
    uint32_t answered = 0;
    int status = PBS_OK;
    put_setting(&in, WINDOW_SETTING, 1 << 20);
    put_u32(&in, WINDOW, 0, 1 << 30);
    while (!status && !(stop && atomic_load(stop))) {
        status = receive_wire(h2, &in);
        if (!status)
            status = send_everything(h2);
        if (status || pbs_upload_acknowledged(upload) == pbs_upload_added(upload))
            break;
        if (answered == state_of(h2).requests) {
            /* Sending clears the event, which may have been that of the stop. */
            if (stop && atomic_load(stop))
                break;
            CHECK_EQUAL(poll(&ready, 1, 60000), 1);
            continue;
        }
        uint32_t id = 2 * answered++ + 1;
        if (answered == 2)
            put_u32(&in, RESET, id, 7);
        else
            put_status(&in, END_STREAM, id, 200);
    }
    free(in.bytes);
    return status;
}

#endif
