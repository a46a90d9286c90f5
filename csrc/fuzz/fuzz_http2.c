/*
 * HTTP/2 with calls and uploads outstanding, and a hostile server. Uploads are a model of
 * pbs_upload.h that stands in its place at the link: it has no threads, and knows of each piece who
 * has it.
 *
 * Input: see talk.h; the operations are below.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "talk.h"

/* ---- the model of uploads ---- */

enum { PIECES = 24, PIECE_ROOM = 3000 };
enum { READY, OUT, RELEASED };

struct piece {
    int state, is_acknowledged, has_failed;
    size_t body_len;
};

struct pbs_upload {
    struct piece pieces[PIECES];
    uint32_t n, next;
    uint8_t *memory; /* all pieces, back to back but for gaps */
    size_t start[PIECES];
    uint32_t again[PIECES]; /* to be handed out once more */
    uint32_t n_again;
    int n_out;
};

static struct pbs_upload uploads;

static uint32_t upload_of_head(const uint8_t *block, size_t len)
{
    uint32_t number = 0;
    CHECK(talk_number(block, len, "/u=", &number));
    return number;
}

static size_t upload_body_len(uint32_t number)
{
    CHECK(number < uploads.n);
    return uploads.pieces[number].body_len;
}

static int upload_is(uint32_t number, size_t at, const uint8_t *bytes, size_t len)
{
    return memcmp(bytes, talk_body(UPLOAD, number) + at, len) == 0;
}

static void upload_failed(uint64_t job)
{
    CHECK(job < uploads.n && !uploads.pieces[job].has_failed);
    CHECK(!uploads.pieces[job].is_acknowledged);
    uploads.pieces[job].has_failed = 1;
}

static struct pbs_request request_of(uint32_t number, char path[32])
{
    snprintf(path, 32, "/u=%u", (unsigned)number);
    return (struct pbs_request){"POST", "a:1", path, "application/octet-stream"};
}

/* Write a piece as a reader does: its head's stream id is 0 again. */
static void fill(uint32_t number)
{
    char path[32];
    size_t head;
    struct pbs_request request = request_of(number, path);
    uint8_t *at = uploads.memory + uploads.start[number];
    CHECK(pbs_request_head_size(&request, &head) == PBS_OK);
    pbs_request_write_head(&request, head, at);
    memset(at + head, 0xee, PBS_FRAME_HEADER);
    memcpy(at + head + PBS_FRAME_HEADER, talk_body(UPLOAD, number),
           uploads.pieces[number].body_len);
}

static void add_piece(struct input *in)
{
    unsigned how = take_u8(in);
    size_t body_len = 13u + (how & 1 ? take_u16(in) % 2800 : take_u8(in)), head;
    char path[32];
    if (uploads.n == PIECES)
        return;
    uint32_t number = uploads.n++;
    struct pbs_request request = request_of(number, path);
    CHECK(pbs_request_head_size(&request, &head) == PBS_OK);
    uploads.pieces[number] = (struct piece){.body_len = body_len};
    if (number) {
        struct pbs_request before = request_of(number - 1, path);
        size_t head_before;
        CHECK(pbs_request_head_size(&before, &head_before) == PBS_OK);
        uploads.start[number] = uploads.start[number - 1] + head_before + PBS_FRAME_HEADER +
                                uploads.pieces[number - 1].body_len + (how & 2 ? 7 : 0);
    }
    fill(number);
}

void pbs_upload_clear_event(struct pbs_upload *upload)
{
    CHECK(upload == &uploads);
}

int pbs_upload_next(struct pbs_upload *upload, const uint8_t *after, struct pbs_upload_piece *out)
{
    uint32_t number;
    size_t head;
    char path[32];
    if (upload->n_again)
        number = upload->again[upload->n_again - 1];
    else if (upload->next < upload->n)
        number = upload->next;
    else
        return 0;
    uint8_t *start = upload->memory + upload->start[number];
    if (after && after != start)
        return 0;
    if (upload->n_again)
        upload->n_again--;
    else
        upload->next++;
    struct piece *piece = &upload->pieces[number];
    struct pbs_request request = request_of(number, path);
    CHECK(piece->state != OUT && pbs_request_head_size(&request, &head) == PBS_OK);
    fill(number);
    piece->state = OUT;
    upload->n_out++;
    *out = (struct pbs_upload_piece){{start, head, piece->body_len}, number, 1000u + number};
    return 1;
}

void pbs_upload_release(struct pbs_upload *upload, uint64_t slot)
{
    CHECK(slot >= 1000 && slot - 1000 < upload->n);
    struct piece *piece = &upload->pieces[slot - 1000];
    CHECK(piece->state == OUT);
    piece->state = RELEASED;
    upload->n_out--;
    uint8_t *start = upload->memory + upload->start[slot - 1000]; /* another chunk's, now */
    memset(start, 0xdd, piece->body_len + 20);
}

void pbs_upload_acknowledge(struct pbs_upload *upload, uint64_t job)
{
    CHECK(job < upload->n && upload->pieces[job].state != READY);
    CHECK(!upload->pieces[job].is_acknowledged && !upload->pieces[job].has_failed);
    upload->pieces[job].is_acknowledged = 1;
}

void pbs_upload_again(struct pbs_upload *upload, uint64_t job)
{
    CHECK(job < upload->n && upload->pieces[job].state == RELEASED);
    CHECK(!upload->pieces[job].is_acknowledged && !upload->pieces[job].has_failed);
    upload->again[upload->n_again++] = (uint32_t)job;
}

/* ---- the conversation ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct talk talk;
    static uint8_t memory[PIECES * PIECE_ROOM];
    struct input in = {data, size};
    unsigned how = take_u8(&in);

    memset(&uploads, 0, sizeof uploads);
    uploads.memory = memory;
    if (!talk_begin(&talk, &in))
        return 0;
    if (how & 1)
        pbs_h2_attach(talk.h2, &uploads);
    for (unsigned n = (how >> 1) % 8; n; n--)
        talk_call(&talk, &in);
    for (unsigned n = (how >> 4) % 8; n; n--)
        add_piece(&in);
    if (how >> 7)
        talk_raw(&talk, &in);
    while (in.left) {
        unsigned op = take_u8(&in);
        if (op % 16 == 15)
            add_piece(&in);
        else
            talk_act(&talk, &in, op);
        if (talk.n_streams > TALK_STREAMS - 200)
            break;
    }
    talk_end(&talk);
    return 0;
}
