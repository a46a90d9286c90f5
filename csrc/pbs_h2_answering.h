/*
 * What a peer says on a stream of ours: the headers and the body of an answer, or that there will be
 * none (RFC 9113, 8.1; refusals: 8.7). The answer of a call is kept for who asked; that of an upload
 * goes to pbs_upload. Frames and their contents are hostile.
 */
#ifndef PBS_H2_ANSWERING_H
#define PBS_H2_ANSWERING_H

#include "pbs_h2_connection.h"

/* A frame of each type. PBS_E_PROTOCOL, PBS_E_FLOW, PBS_E_NOMEM, PBS_E_TOO_LARGE, with the reason
 * told to pbs_h2_broken. They may free what the last output lay in: after pbs_h2_settle only. */
int pbs_h2_on_data(struct pbs_h2 *h2, struct pbs_h2_frame *frame);
int pbs_h2_on_headers(struct pbs_h2 *h2, struct pbs_h2_frame *frame);
int pbs_h2_on_continuation(struct pbs_h2 *h2, const struct pbs_h2_frame *frame);
int pbs_h2_on_reset(struct pbs_h2 *h2, const struct pbs_h2_frame *frame);

/* The peer will not look at streams above last_id; there is no other connection to try them on. */
int pbs_h2_leave_out(struct pbs_h2 *h2, uint32_t last_id);

#endif
