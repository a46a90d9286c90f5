/*
 * Uploads as they are, with chunk files and memory of their own, under a hostile server. As a rule
 * this thread reads the chunks, as those that encrypt do, so that the same input does the same again;
 * else a reader does.
 *
 * Input: see talk.h; op 15 adds jobs, or reads, gives, drops chunks.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pbs_blob.h"
#include "pbs_upload.h"
#include "talk.h"

enum { FILES = 10, ROWS = FILES + 3, MOST_JOBS = 60, READING = 8 };

/* The last rows have no file, a damaged one, and an empty one. */
static uint8_t digests[ROWS * 32];
static uint8_t *contents[FILES];
static const size_t sizes[FILES] = {13, 14, 40, 200, 700, 3000, 5000, 9000, 16384, 40000};
static int folder = -1;

static struct {
    struct pbs_upload *upload;
    size_t margin;
    int by_hand;
    uint64_t added, again, taken;
    struct pbs_reading reading[READING];
    int is_reading[READING];
} self;

void __real_pbs_upload_again(struct pbs_upload *upload, uint64_t job);
void __wrap_pbs_upload_again(struct pbs_upload *upload, uint64_t job);

void __wrap_pbs_upload_again(struct pbs_upload *upload, uint64_t job)
{
    self.again++;
    __real_pbs_upload_again(upload, job);
}

static void write_file(const uint8_t *digest, const uint8_t *bytes, size_t size)
{
    char name[PBS_CHUNK_NAME_SIZE], parent[5] = {0};
    pbs_chunk_name(digest, name);
    memcpy(parent, name, 4);
    (void)mkdirat(folder, parent, 0700);
    int fd = openat(folder, name, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static void make_store(void)
{
    static const uint8_t magic[] = {49, 185, 88, 66, 111, 182, 163, 127};
    char path[] = "/dev/shm/pbs-fuzz-XXXXXX";
    CHECK(mkdtemp(path) != NULL);
    folder = open(path, O_RDONLY | O_DIRECTORY);
    for (size_t row = 0; row < ROWS; row++)
        memset(digests + 32 * row, (int)(0x11 + row), 32);
    for (size_t i = 0; i < FILES; i++) {
        contents[i] = allocate(sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            contents[i][k] = (uint8_t)(i * 31 + k * 7 + (k >> 8));
        memcpy(contents[i], magic, 8);
        pbs_store_le32(contents[i] + 8, pbs_crc32(0, contents[i] + 12, sizes[i] - 12));
        write_file(digests + 32 * i, contents[i], sizes[i]);
    }
    write_file(digests + 32 * (FILES + 1), (const uint8_t *)"no blob at all", 14);
    write_file(digests + 32 * (FILES + 2), contents[0], 0);
}

static uint32_t upload_of_head(const uint8_t *block, size_t len)
{
    char hex[64];
    for (uint32_t i = 0; i < FILES; i++) {
        pbs_digest_hex(digests + 32 * i, hex);
        if (memmem(block, len, hex, 64))
            return i;
    }
    CHECK(!"a head without a digest");
    return 0;
}

static size_t upload_body_len(uint32_t number)
{
    return sizes[number] + self.margin;
}

static int upload_is(uint32_t number, size_t at, const uint8_t *bytes, size_t len)
{
    for (; at < self.margin && len; at++, bytes++, len--)
        if (*bytes != 0x5a)
            return 0;
    return len == 0 || memcmp(bytes, contents[number] + (at - self.margin), len) == 0;
}

static void upload_failed(uint64_t job)
{
    uint8_t digest[32];
    CHECK(job < self.added && pbs_upload_digest(self.upload, job, digest) == PBS_OK);
}

static void add_jobs(struct input *in)
{
    struct pbs_upload_archive archive = {
        .index = {.kind = PBS_INDEX_FIXED,
                  .digests = digests,
                  .stride = 32,
                  .n = ROWS,
                  .chunk_size = 1 << 22,
                  .size = (uint64_t)ROWS << 22},
        .writer_id = take_u8(in),
    };
    uint32_t positions[8];
    size_t n = 1 + take_u8(in) % 8, added = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t pos = take_u8(in); /* as a rule one that is there */
        positions[i] = pos < 200 ? pos % FILES : pos < 250 ? pos % ROWS : ROWS;
    }
    if (self.added >= MOST_JOBS)
        return;
    int status = pbs_upload_add(self.upload, &archive, positions, n, &added);
    CHECK(status == PBS_OK || (status == PBS_E_INVALID && positions[added] == ROWS));
    self.added += added;
}

/* Do what a thread that encrypts does with one chunk: read it now, give or drop it maybe later. */
static void read_one(struct input *in)
{
    unsigned how = take_u8(in);
    size_t at = how % READING;
    struct pbs_reading *reading = &self.reading[at];
    if (self.is_reading[at]) {
        self.is_reading[at] = 0;
        if (how & 0x80) {
            pbs_upload_drop(self.upload, reading);
        } else {
            memset(pbs_upload_body(reading), 0x5a, self.margin);
            pbs_upload_give(self.upload, reading, reading->job.digest);
        }
    } else if (self.taken < self.added + self.again) { /* it would wait for ever otherwise */
        CHECK(pbs_upload_take(self.upload, reading));
        self.taken++;
        int status = pbs_upload_read(self.upload, reading);
        size_t row = reading->job.digest[0] - 0x11u;
        int expected = row < FILES        ? PBS_OK
                       : row == FILES     ? PBS_E_NOT_FOUND
                       : row == FILES + 1 ? PBS_E_MAGIC
                                          : PBS_E_EMPTY;
        CHECK(status == expected);
        self.is_reading[at] = status == PBS_OK;
    }
}

/* Let the reader bring what it has not brought yet. */
static void await_reader(struct talk *talk)
{
    struct pollfd ready = {.fd = pbs_upload_event_fd(self.upload), .events = POLLIN};
    struct pbs_upload_failure failure;
    while (talk_send(talk, SIZE_MAX))
        continue;
    if (talk->n_uploads < self.added + self.again && !pbs_upload_failed(self.upload, &failure))
        poll(&ready, 1, 2);
}

static void begin(struct talk *talk, struct input *in)
{
    struct pbs_upload_options options = {.chunks_fd = folder, .readers = 1, .authority = "a:1"};
    unsigned how = take_u8(in);
    memset(&self, 0, sizeof self);
    CHECK(talk_begin(talk, in));
    CHECK(pbs_upload_new(&options, &self.upload) == PBS_OK);
    self.by_hand = (how & 7) != 7;
    if (self.by_hand) {
        self.margin = how & 8 ? 32 : 0;
        pbs_upload_take_over(self.upload, self.margin, (size_t)8 << 20);
    }
    pbs_h2_attach(talk->h2, self.upload);
    add_jobs(in);
    for (unsigned n = how >> 5; n && self.by_hand; n--)
        read_one(in);
    if (how & 16)
        talk_call(talk, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct talk talk;
    struct input in = {data, size};

    if (folder < 0)
        make_store();
    begin(&talk, &in);
    for (unsigned n = 0; in.left && n < 400; n++) {
        unsigned op = take_u8(&in);
        if (op % 16 != 15)
            talk_act(&talk, &in, op);
        else if (op == 0xff)
            add_jobs(&in);
        else if (self.by_hand)
            read_one(&in);
        else
            await_reader(&talk);
    }
    talk_end(&talk);
    uint64_t acknowledged = pbs_upload_acknowledged(self.upload);
    CHECK(pbs_upload_added(self.upload) == self.added && acknowledged <= self.added);
    pbs_upload_free(self.upload);
    return 0;
}
