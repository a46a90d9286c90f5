#include "pbs_h2_connection.h"

#include <stdio.h>
#include <string.h>

#include "pbs_error.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

/* Control frames that wait for the peer to read (it made us send them, so it may be hostile). */
#define MAX_CONTROL (1u << 20)

int pbs_h2_broken(struct pbs_h2 *h2, int status, const char *why)
{
    snprintf(h2->error, sizeof h2->error, "%s", why);
    return status;
}

int pbs_h2_put(struct pbs_h2 *h2, enum pbs_h2_frame_type type, unsigned flags, uint32_t stream,
               const void *payload, size_t len)
{
    uint8_t header[PBS_FRAME_HEADER];

    if (h2->control.len > MAX_CONTROL)
        return pbs_h2_broken(h2, PBS_E_TOO_LARGE, "the target makes us answer more than it reads");
    pbs_h2_put_frame_header(header, len, type, flags, stream);
    int status = pbs_buffer_append(&h2->control, header, sizeof header);
    return status ? status : pbs_buffer_append(&h2->control, payload, len);
}

int pbs_h2_put_u32(struct pbs_h2 *h2, enum pbs_h2_frame_type type, uint32_t stream, uint32_t value)
{
    uint8_t payload[4];

    pbs_store_be32(payload, value);
    return pbs_h2_put(h2, type, 0, stream, payload, sizeof payload);
}

int pbs_h2_put_preface(struct pbs_h2 *h2)
{
    uint8_t settings[12];

    pbs_store_be16(settings, PBS_H2_ENABLE_PUSH);
    pbs_store_be32(settings + 2, 0);
    pbs_store_be16(settings + 6, PBS_H2_INITIAL_WINDOW_SIZE);
    pbs_store_be32(settings + 8, PBS_H2_INITIAL_WINDOW);
    int status = pbs_buffer_append(&h2->control, PREFACE, strlen(PREFACE));
    if (!status)
        status = pbs_h2_put(h2, PBS_H2_SETTINGS, 0, 0, settings, sizeof settings);
    if (!status)
        status = pbs_h2_put_u32(h2, PBS_H2_WINDOW_UPDATE, 0,
                                PBS_H2_MAX_WINDOW - PBS_H2_DEFAULT_WINDOW);
    return status;
}

int pbs_h2_check_known(struct pbs_h2 *h2, uint32_t id)
{
    if (!pbs_h2_streams_known(&h2->streams, id))
        return pbs_h2_broken(h2, PBS_E_PROTOCOL, "a frame for a stream that was never opened");
    return PBS_OK;
}
