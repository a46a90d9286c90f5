/*
 * What fuzz_http2.c does, while some calls for memory fail.
 *
 * Input: the first such call, how many in a row, and the rest as there.
 */
#define _GNU_SOURCE
#include "../tests/failing.h"

#define TALK_NOMEM(status) ((status) == PBS_E_NOMEM && failing_has())
#define LLVMFuzzerTestOneInput converse
#include "fuzz_http2.c"
#undef LLVMFuzzerTestOneInput

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    long first = take_u8(&in), more = take_u8(&in);
    failing_from(1 + first, 1 + first + (more < 16 ? 0 : more));
    converse(in.at, in.left);
    failing_from(0, 0);
    return 0;
}
