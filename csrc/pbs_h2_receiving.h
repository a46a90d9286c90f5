/*
 * Bytes of the peer: cut into frames, those about the connection as a whole obeyed (RFC 9113, 6.5
 * and 6.7 to 6.9), and those about a stream passed on (pbs_h2_answering.h).
 */
#ifndef PBS_H2_RECEIVING_H
#define PBS_H2_RECEIVING_H

#include "pbs_h2_connection.h"

/* Take them, after pbs_h2_settle. Errors: see pbs_h2_receive in pbs_http2.h. */
int pbs_h2_take_input(struct pbs_h2 *h2, const uint8_t *data, size_t len);

#endif
