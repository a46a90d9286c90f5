/* What a client under test says to its peer, and the answers it has for its caller. */
#ifndef PBS_TESTS_EXPECT_H
#define PBS_TESTS_EXPECT_H

#include "wire.h"

static inline void drain(struct pbs_h2 *h2, struct wire *out)
{
    const uint8_t *bytes;
    size_t len;
    for (;;) {
        CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &bytes, &len), PBS_OK);
        if (len == 0)
            return;
        put(out, bytes, len);
    }
}

static inline void expect_output(struct pbs_h2 *h2, const void *expected, size_t len)
{
    struct wire out = {0};
    drain(h2, &out);
    if (out.len != len)
        for (size_t i = 0; i < out.len; i++)
            fprintf(stderr, "%02x%s", out.bytes[i], i % 16 == 15 ? "\n" : " ");
    CHECK(out.len == len && (len == 0 || memcmp(out.bytes, expected, len) == 0));
    free(out.bytes);
}

#define EXPECT_OUTPUT(h2, text) expect_output(h2, text, sizeof text - 1)
#define RECEIVE(h2, text) receive(h2, text, sizeof text - 1)
#define ACK_FRAME "\0\0\0\4\1\0\0\0\0"

/* A connection whose preface is out and whose peer's settings are in. */
static inline struct pbs_h2 *begun(void)
{
    struct pbs_h2 *h2 = new_h2(1 << 20, 1 << 20);
    struct wire out = {0};
    drain(h2, &out);
    CHECK_EQUAL(RECEIVE(h2, SETTINGS_FRAME), PBS_OK);
    EXPECT_OUTPUT(h2, ACK_FRAME);
    free(out.bytes);
    return h2;
}

static inline struct pbs_h2_answer next_answer(struct pbs_h2 *h2)
{
    struct pbs_h2_answer answer;
    CHECK(pbs_h2_next_answer(h2, &answer));
    return answer;
}

static inline void expect_answer(struct pbs_h2 *h2, uint32_t tag, unsigned status, const char *body)
{
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK_EQUAL(answer.tag, tag);
    CHECK_EQUAL(answer.status, status);
    CHECK(!answer.is_upload && !answer.is_part && answer.body_len == strlen(body));
    CHECK(memcmp(answer.body_len ? (void *)answer.body : "", body, answer.body_len) == 0);
    free(answer.body);
}

static inline void expect_part(struct pbs_h2 *h2, uint32_t tag, const char *body)
{
    struct pbs_h2_answer answer = next_answer(h2);
    CHECK(answer.tag == tag && answer.is_part && answer.status == 200);
    CHECK(answer.body_len == strlen(body) && memcmp(answer.body, body, answer.body_len) == 0);
    free(answer.body);
}

#endif
