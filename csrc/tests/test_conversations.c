#define _GNU_SOURCE
#include <poll.h>

#include "check.h"
#include "store.h"
#include "wire.h"

static uint64_t seed = 20261127;

static uint32_t below(uint32_t n)
{
    return (uint32_t)(next_random(&seed) % n);
}

/* ---- conversations with a peer that checks each byte ---- */

#define FILES 12
static struct store store;
static uint8_t digests[FILES * 32];
static uint8_t *files[FILES];
static size_t sizes[FILES];

struct peer_stream {
    uint32_t id;
    int64_t window;
    struct wire body;
    int ended;  /* by the client */
    int closed; /* answered, or reset by either */
    int is_upload;
    uint32_t file;
    uint32_t tag; /* of a call: its body says */
};

struct settings {
    uint32_t window, frame, streams;
};

enum { PEER_STREAMS = 4000, PENDING = 64 };

struct peer {
    int64_t window;
    struct settings now, pending[PENDING];
    size_t n_pending;
    struct peer_stream streams[PEER_STREAMS];
    uint32_t n_streams, n_open, done_uploads, done_calls;
    struct wire said; /* all that it has sent */
    struct wire out;  /* not received yet */
};

static struct peer_stream *peer_stream(struct peer *peer, uint32_t id)
{
    CHECK(id % 2 == 1 && id / 2 < peer->n_streams);
    return &peer->streams[id / 2];
}

static uint32_t file_of_path(const uint8_t *block, size_t len)
{
    char hex[65];
    for (uint32_t file = 0; file < FILES; file++) {
        pbs_digest_hex(digests + 32 * file, hex);
        if (memmem(block, len, hex, 64))
            return file;
    }
    return FILES;
}

static void peer_headers(struct peer *peer, uint32_t id, int flags, const uint8_t *block,
                         size_t len)
{
    CHECK(peer->n_streams < PEER_STREAMS && id == 2 * peer->n_streams + 1);
    CHECK(flags & END_HEADERS && peer->n_open < peer->now.streams);
    struct peer_stream *stream = &peer->streams[peer->n_streams++];
    uint32_t file = file_of_path(block, len);
    *stream = (struct peer_stream){.id = id, .window = peer->now.window, .file = file};
    stream->is_upload = file < FILES;
    stream->ended = flags & END_STREAM;
    peer->n_open++;
}

static void peer_data(struct peer *peer, uint32_t id, int flags, const uint8_t *data, size_t len)
{
    struct peer_stream *stream = peer_stream(peer, id);
    CHECK(!stream->ended && len <= peer->now.frame && len > 0);
    stream->window -= (int64_t)len;
    peer->window -= (int64_t)len;
    CHECK(peer->window >= 0 && stream->window >= 0);
    put(&stream->body, data, len);
    stream->ended = flags & END_STREAM;
    if (stream->is_upload && stream->ended)
        CHECK(stream->body.len == sizes[stream->file] &&
              memcmp(stream->body.bytes, files[stream->file], stream->body.len) == 0);
    for (size_t i = 0; !stream->is_upload && stream->ended && i < stream->body.len; i++)
        CHECK(stream->body.bytes[i] == (uint8_t)(stream->body.bytes[0] + i));
}

static void peer_settings_acknowledged(struct peer *peer)
{
    CHECK(peer->n_pending > 0);
    int64_t change = (int64_t)peer->pending[0].window - peer->now.window;
    peer->now = peer->pending[0];
    memmove(peer->pending, peer->pending + 1, --peer->n_pending * sizeof *peer->pending);
    for (uint32_t i = 0; i < peer->n_streams; i++)
        peer->streams[i].window += change;
}

static void peer_close(struct peer *peer, struct peer_stream *stream)
{
    CHECK(!stream->closed);
    stream->closed = 1;
    peer->n_open--;
}

/* Takes one output of the client: whole frames. */
static void peer_take(struct peer *peer, const uint8_t *bytes, size_t len)
{
    if (len > 24 && memcmp(bytes, "PRI", 3) == 0) {
        bytes += 24;
        len -= 24;
    }
    while (len) {
        CHECK(len >= 9);
        size_t size = pbs_load_be24(bytes);
        int flags = bytes[4];
        uint32_t id = pbs_load_be32(bytes + 5);
        CHECK(len - 9 >= size);
        switch (bytes[3]) {
        case HEADERS:
            peer_headers(peer, id, flags, bytes + 9, size);
            break;
        case DATA:
            peer_data(peer, id, flags, bytes + 9, size);
            break;
        case SETTINGS:
            if (flags & ACK)
                peer_settings_acknowledged(peer);
            break;
        case RESET:
            CHECK(peer_stream(peer, id)->closed); /* only when it answered early */
            peer_stream(peer, id)->ended = 1;
            break;
        default:
            CHECK(bytes[3] == WINDOW || bytes[3] == PING);
        }
        bytes += 9 + size;
        len -= 9 + size;
    }
}

static void peer_answer(struct peer *peer, struct peer_stream *stream, unsigned status)
{
    char body[12];
    int len = snprintf(body, sizeof body, "%u", stream->tag);
    /* With a table entry now and then, in pieces, padded. */
    char block[32] = "\x48\x03";
    snprintf(block + 2, 4, "%u", status);
    size_t block_len = 5, cut = below(6);
    int flags = below(2) ? 0 : END_STREAM;
    if (stream->is_upload || stream->tag == 0)
        flags = END_STREAM;
    put_frame(&peer->out, HEADERS, flags, stream->id, block, cut);
    put_frame(&peer->out, CONTINUATION, END_HEADERS, stream->id, block + cut, block_len - cut);
    if (!(flags & END_STREAM)) {
        char padded[40] = {(char)below(20)};
        memcpy(padded + 1, body, (size_t)len);
        put_frame(&peer->out, DATA, PADDED, stream->id, padded,
                  1 + (size_t)len + (size_t)padded[0]);
        put_frame(&peer->out, DATA, END_STREAM, stream->id, NULL, 0);
    }
    peer_close(peer, stream);
    if (stream->is_upload)
        peer->done_uploads++;
    else
        peer->done_calls++;
}

static void peer_new_settings(struct peer *peer)
{
    const uint32_t windows[] = {0, 1, 7, 100, 16384, 65535, 1 << 20};
    const uint32_t limits[] = {0, 1, 2, 3, 10, 200};
    struct settings next = {windows[below(7)], 16384u << below(6), limits[below(6)]};
    uint8_t payload[18];
    if (peer->n_pending == PENDING)
        return;
    for (int i = 0; i < 3; i++) {
        pbs_store_be16(payload + 6 * i, (uint16_t)(MAX_STREAMS_SETTING + i));
        pbs_store_be32(payload + 6 * i + 2, i == 0   ? next.streams
                                            : i == 1 ? next.window
                                                     : next.frame);
    }
    put_frame(&peer->out, SETTINGS, 0, 0, payload, sizeof payload);
    peer->pending[peer->n_pending++] = next;
}

static struct peer_stream *some_open_stream(struct peer *peer)
{
    for (int tries = 0; tries < 20 && peer->n_streams; tries++) {
        struct peer_stream *stream = &peer->streams[below(peer->n_streams)];
        if (!stream->closed)
            return stream;
    }
    return NULL;
}

/* One random thing that a peer may do; in the end only what brings it to an end. */
static void peer_act(struct peer *peer, int ending)
{
    struct peer_stream *stream = some_open_stream(peer);
    switch (below(ending ? 4 : 8)) {
    case 0:
        if (stream && stream->ended)
            peer_answer(peer, stream, 200);
        break;
    case 1: {
        uint32_t more = 1 + below(below(2) ? 10 : 400000);
        if (peer->window + more < INT32_MAX / 2) {
            put_u32(&peer->out, WINDOW, 0, more);
            peer->window += more;
        }
        break;
    }
    case 2:
    case 3:
        if (stream && stream->window < (1 << 28)) {
            uint32_t more = 1 + below(below(2) ? 10 : 400000);
            put_u32(&peer->out, WINDOW, stream->id, more);
            stream->window += more;
        }
        break;
    case 4:
        peer_new_settings(peer);
        break;
    case 5:
        put_frame(&peer->out, PING, 0, 0, "pingping", 8);
        break;
    case 6:
        if (stream && below(4) == 0) {
            put_u32(&peer->out, RESET, stream->id, 7);
            peer_close(peer, stream);
        }
        break;
    default:
        if (stream && !stream->is_upload && below(4) == 0)
            peer_answer(peer, stream, 400);
    }
}

/* Bytes on their way to the client, in pieces of any size. */
static void deliver(struct peer *peer, struct pbs_h2 *h2)
{
    size_t at = 0;
    put(&peer->said, peer->out.bytes, peer->out.len);
    while (at < peer->out.len) {
        size_t piece = 1 + below(below(3) ? 4000 : 12);
        piece = piece < peer->out.len - at ? piece : peer->out.len - at;
        CHECK_EQUAL(receive(h2, peer->out.bytes + at, piece), PBS_OK);
        at += piece;
    }
    peer->out.len = 0;
}

static void free_peer(struct peer *peer)
{
    for (uint32_t i = 0; i < peer->n_streams; i++)
        free(peer->streams[i].body.bytes);
    free(peer->said.bytes);
    free(peer->out.bytes);
    free(peer);
}

enum { UPLOADS = 60, CALLS = 20 };

static struct pbs_upload *new_uploads(void)
{
    struct pbs_upload_options options = {
        .chunks_fd = store.fd, .readers = 3, .authority = AUTHORITY};
    struct pbs_upload_archive archive = {
        .index = fixed_index(digests, FILES, 4096, (uint64_t)FILES * 4096), .writer_id = 1};
    struct pbs_upload *upload;
    uint32_t positions[UPLOADS];
    size_t added;
    for (size_t i = 0; i < UPLOADS; i++)
        positions[i] = below(FILES);
    CHECK_EQUAL(pbs_upload_new(&options, &upload), PBS_OK);
    CHECK_EQUAL(pbs_upload_add(upload, &archive, positions, UPLOADS, &added), PBS_OK);
    CHECK_EQUAL(added, UPLOADS);
    return upload;
}

/* A few outputs of the client, each taken before the next is asked for; some stay untaken until the
 * peer's next bytes are in. Returns whether there was any. */
static int exchange(struct pbs_h2 *h2, struct peer *peer)
{
    const uint8_t *bytes;
    size_t len;
    int moved = 0;
    for (uint32_t n = 1 + below(8); n; n--) {
        CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &bytes, &len), PBS_OK);
        if (!len)
            break;
        uint8_t *exact = allocate(len);
        memcpy(exact, bytes, len);
        peer_take(peer, exact, len);
        free(exact);
        moved = 1;
    }
    return moved;
}

/* Returns what the peer has said, for the tests below. */
static struct wire converse(void)
{
    struct pbs_h2 *h2 = new_h2(1 + below(300000), 1 + below(300000));
    struct pbs_upload *upload = new_uploads();
    struct peer *peer = calloc(1, sizeof *peer);
    struct pollfd ready = {.fd = pbs_upload_event_fd(upload), .events = POLLIN};
    uint32_t calls = 0, answers = 0;

    CHECK(peer != NULL);
    pbs_h2_attach(h2, upload);
    peer->window = 65535;
    peer->now = (struct settings){65535, 16384, UINT32_MAX};
    peer_new_settings(peer);
    for (uint32_t step = 0; answers < CALLS || pbs_upload_acknowledged(upload) < UPLOADS; step++) {
        int ending = step > 1500;
        CHECK(step < 2000000);
        if (calls < CALLS && below(20) == 0) {
            call(h2, calls, below(2) ? "PUT" : "GET", below(2) ? 0 : below(100000), PBS_H2_COLLECT,
                 100);
            calls++;
        }
        if (step == 1501) { /* the last settings let everything through */
            while (peer->n_pending)
                deliver(peer, h2), exchange(h2, peer);
            put_setting(&peer->out, MAX_STREAMS_SETTING, 5);
            peer->pending[peer->n_pending++] = (struct settings){peer->now.window, peer->now.frame,
                                                                 5};
        }
        if (!exchange(h2, peer) && ending)
            poll(&ready, 1, 1);
        peer_act(peer, ending);
        if (below(3))
            deliver(peer, h2);
        struct pbs_h2_answer answer;
        while (pbs_h2_next_answer(h2, &answer)) {
            CHECK(!answer.is_upload && (answer.status == 200 || answer.status == 400));
            CHECK(answer.tag < calls);
            answers++;
            free(answer.body);
        }
    }
    CHECK_EQUAL(peer->done_uploads, UPLOADS);
    CHECK_EQUAL(peer->done_calls, CALLS);
    CHECK_EQUAL(state_of(h2).uploads_done, UPLOADS);
    struct wire said = peer->said;
    peer->said = (struct wire){0};
    pbs_h2_free(h2);
    pbs_upload_free(upload);
    free_peer(peer);
    return said;
}

static void everything_arrives_whatever_the_peer_does(void)
{
    for (int round = 0; round < 40; round++)
        free(converse().bytes);
}

/* More bytes refused than the ring holds: what was not sent of them leaves it. */
static void refused_uploads_leave_the_ring(void)
{
    enum { REFUSALS = 350 };
    struct pbs_h2 *h2 = new_h2(1 << 20, 1 << 20);
    struct pbs_upload *upload = new_uploads();
    struct pollfd ready = {.fd = pbs_upload_event_fd(upload), .events = POLLIN};
    struct wire in = {0};
    uint32_t id = 1;
    pbs_h2_attach(h2, upload);
    put_setting(&in, WINDOW_SETTING, 0);
    CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    while (state_of(h2).refused < REFUSALS) {
        const uint8_t *out;
        size_t len;
        CHECK_EQUAL(pbs_h2_send(h2, SIZE_MAX, &out, &len), PBS_OK);
        if (!len)
            CHECK_EQUAL(poll(&ready, 1, 60000), 1);
        for (; id < 2 * state_of(h2).requests; id += 2)
            put_u32(&in, RESET, id, 7);
        if (in.len)
            CHECK_EQUAL(receive_wire(h2, &in), PBS_OK);
    }
    CHECK_EQUAL(state_of(h2).open_streams, 0);
    pbs_h2_free(h2);
    pbs_upload_free(upload);
    free(in.bytes);
}

/* ---- hostile bytes ---- */

/* A client in the middle of its work reads these bytes; it may be content or not. */
static void suffer(const uint8_t *bytes, size_t len, struct pbs_upload *upload)
{
    struct pbs_h2 *h2 = new_h2(1 + below(100000), 1 + below(100000));
    struct pbs_h2_answer answer;
    const uint8_t *out;
    size_t at = 0, out_len;
    volatile uint8_t sum = 0;

    if (upload)
        pbs_h2_attach(h2, upload);
    for (uint32_t tag = 1; tag < 8; tag++)
        call(h2, tag, tag % 2 ? "PUT" : "GET", tag % 2 ? 20000 * tag : 0,
             (enum pbs_h2_answer_mode)(tag % 3), 1000);
    while (at < len) {
        size_t piece = 1 + below(3000);
        piece = piece < len - at ? piece : len - at;
        int status = receive(h2, bytes + at, piece);
        CHECK(status == PBS_OK || status == PBS_E_PROTOCOL || status == PBS_E_FLOW ||
              status == PBS_E_TOO_LARGE || status == PBS_E_CLOSED);
        CHECK((status == PBS_OK) == (pbs_h2_error(h2)[0] == '\0'));
        at += piece;
        for (int i = 0; i < 4 && pbs_h2_send(h2, SIZE_MAX, &out, &out_len) == PBS_OK; i++)
            for (size_t k = 0; k < out_len; k++)
                sum ^= out[k];
        while (pbs_h2_next_answer(h2, &answer))
            free(answer.body);
        if (status)
            break;
    }
    pbs_h2_free(h2);
}

static void random_frames_do_no_harm(void)
{
    for (int round = 0; round < 4000; round++) {
        struct wire in = {0};
        uint8_t payload[300];
        put(&in, SETTINGS_FRAME, 9);
        for (uint32_t n = below(40); n; n--) {
            size_t len = below(below(4) ? 12 : sizeof payload);
            fill_random(&seed, payload, len);
            if (len && below(2))
                payload[0] = 0x88;
            if (len > 4 && below(2)) /* small numbers */
                memset(payload, 0, 3);
            put_frame(&in, (int)below(11), (int)(below(2) ? 1u << below(6) : below(256)), below(18),
                      payload, len);
        }
        suffer(in.bytes, in.len, NULL);
        free(in.bytes);
    }
}

static void changed_conversations_do_no_harm(void)
{
    for (int round = 0; round < 300; round++) {
        static struct wire said;
        if (round % 20 == 0) {
            free(said.bytes);
            said = converse();
        }
        struct pbs_upload *upload = new_uploads();
        size_t from = round % 2 ? 0 : below((uint32_t)said.len / 2);
        size_t len = said.len - from < 20000 ? said.len - from : 20000;
        uint8_t *bytes = allocate(len);
        memcpy(bytes, said.bytes + from, len);
        for (uint32_t n = 1 + below(20); n; n--)
            bytes[below((uint32_t)len)] ^= (uint8_t)(1u << below(8));
        suffer(bytes, len, upload);
        pbs_upload_free(upload);
        free(bytes);
        if (round == 299)
            free(said.bytes);
    }
}

int main(void)
{
    store = store_new();
    fill_random(&seed, digests, sizeof digests);
    for (size_t i = 0; i < FILES; i++) {
        sizes[i] = 13 + below(i % 3 ? 2000 : 200000);
        files[i] = allocate(sizes[i]);
        fill_random(&seed, files[i], sizes[i]);
        make_blob(files[i], sizes[i], PBS_BLOB_ZSTD);
        store_put(&store, digests + 32 * i, files[i], sizes[i]);
    }
    RUN(everything_arrives_whatever_the_peer_does);
    RUN(refused_uploads_leave_the_ring);
    RUN(random_frames_do_no_harm);
    RUN(changed_conversations_do_no_harm);
    for (size_t i = 0; i < FILES; i++)
        free(files[i]);
    store_free(&store);
    return 0;
}
