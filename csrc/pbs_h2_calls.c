#include "pbs_h2_calls.h"

#include <stdlib.h>

#include "pbs_error.h"

/* ---- calls ---- */

int pbs_h2_message_new(const struct pbs_h2_call *call, size_t body_size,
                       struct pbs_h2_message **out, uint8_t **out_body)
{
    struct pbs_request request = {call->method, call->authority, call->path, call->content_type};
    size_t head;

    int status = pbs_request_head_size(&request, &head);
    if (status)
        return status;
    struct pbs_h2_message *message =
        malloc(sizeof *message + head + (body_size ? PBS_FRAME_HEADER + body_size : 0));
    if (!message)
        return PBS_E_NOMEM;
    message->message = (struct pbs_message){message->memory, head, body_size};
    message->mode = call->mode;
    message->max_body = call->max_body;
    message->part_size = call->part_size;
    message->tag = call->tag;
    message->once = call->once;
    message->next = NULL;
    pbs_request_write_head(&request, head, message->memory);
    *out = message;
    *out_body = body_size ? message->memory + head + PBS_FRAME_HEADER : NULL;
    return PBS_OK;
}

void pbs_h2_message_free(struct pbs_h2_message *message)
{
    free(message);
}

struct pbs_h2_message *pbs_h2_message_drop_body(struct pbs_h2_message *message)
{
    struct pbs_h2_message *smaller = realloc(message, sizeof *message + message->message.head_len);

    if (!smaller) /* then it keeps the memory */
        smaller = message;
    smaller->message.start = smaller->memory;
    smaller->message.body_len = 0;
    return smaller;
}

void pbs_h2_calls_init(struct pbs_h2_calls *calls)
{
    *calls = (struct pbs_h2_calls){.end = &calls->first};
}

void pbs_h2_calls_free(struct pbs_h2_calls *calls)
{
    while (calls->first)
        pbs_h2_message_free(pbs_h2_calls_pop(calls));
}

void pbs_h2_calls_push(struct pbs_h2_calls *calls, struct pbs_h2_message *message)
{
    *calls->end = message;
    calls->end = &message->next;
    calls->n++;
}

void pbs_h2_calls_push_front(struct pbs_h2_calls *calls, struct pbs_h2_message *message)
{
    message->next = calls->first;
    calls->first = message;
    if (!message->next)
        calls->end = &message->next;
    calls->n++;
}

struct pbs_h2_message *pbs_h2_calls_pop(struct pbs_h2_calls *calls)
{
    struct pbs_h2_message *message = calls->first;

    calls->first = message->next;
    if (!calls->first)
        calls->end = &calls->first;
    message->next = NULL;
    calls->n--;
    return message;
}

size_t pbs_h2_calls_bytes(const struct pbs_h2_calls *calls)
{
    size_t bytes = 0;

    for (const struct pbs_h2_message *call = calls->first; call; call = call->next)
        bytes += call->message.body_len;
    return bytes;
}

/* ---- answers ---- */

struct pbs_h2_answer_node {
    struct pbs_h2_answer answer;
    struct pbs_h2_answer_node *next;
};

void pbs_h2_answers_init(struct pbs_h2_answers *answers)
{
    *answers = (struct pbs_h2_answers){.end = &answers->first};
}

void pbs_h2_answers_free(struct pbs_h2_answers *answers)
{
    struct pbs_h2_answer answer;

    while (pbs_h2_answers_pop(answers, &answer))
        free(answer.body);
}

int pbs_h2_answers_push(struct pbs_h2_answers *answers, const struct pbs_h2_answer *answer)
{
    struct pbs_h2_answer_node *node = malloc(sizeof *node);
    if (!node)
        return PBS_E_NOMEM;
    *node = (struct pbs_h2_answer_node){.answer = *answer};
    *answers->end = node;
    answers->end = &node->next;
    return PBS_OK;
}

int pbs_h2_answers_pop(struct pbs_h2_answers *answers, struct pbs_h2_answer *out)
{
    struct pbs_h2_answer_node *node = answers->first;

    if (!node)
        return 0;
    answers->first = node->next;
    if (!answers->first)
        answers->end = &answers->first;
    *out = node->answer;
    free(node);
    return 1;
}
