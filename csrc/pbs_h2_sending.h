/*
 * What leaves next on a connection, straight from the memory it lies in: control frames, calls and
 * chunk uploads, as streams and windows allow (RFC 9113, 5.1.2 and 5.2). An output is a single run
 * of bytes; the next one is made only when it has been sent.
 */
#ifndef PBS_H2_SENDING_H
#define PBS_H2_SENDING_H

#include "pbs_h2_connection.h"

/* What the last output held has been sent: put bytes back, give memory back. */
void pbs_h2_settle(struct pbs_h2 *h2);

/* Make the next output, after pbs_h2_settle, with at most max_body bytes of bodies; *out_len 0:
 * there is nothing that may be sent now. PBS_E_NOMEM, PBS_E_TOO_LARGE (of pbs_h2_put). */
int pbs_h2_next_output(struct pbs_h2 *h2, size_t max_body, const uint8_t **out, size_t *out_len);

#endif
