#include "pbs_ring.h"

#include <string.h>

#include "check.h"
#include "pbs_error.h"

static struct pbs_ring ring;

static void begin(size_t size)
{
    memset(&ring, 0, sizeof ring);
    CHECK_EQUAL(pbs_ring_map(&ring, size), PBS_OK);
}

/* Returns the slot's number; -1: there is no room. */
static int64_t take(size_t size)
{
    struct pbs_slot slot = {.size = size, .state = PBS_SLOT_READY};

    return pbs_ring_find(&ring, size, &slot.start) ? (int64_t)pbs_ring_take(&ring, &slot) : -1;
}

static void pieces_follow_each_other_and_go_round(void)
{
    begin(100);
    CHECK_EQUAL(take(40), 0);
    CHECK_EQUAL(take(40), 1);
    CHECK_EQUAL(take(30), -1);
    pbs_ring_release(&ring, 0);
    CHECK_EQUAL(take(41), -1);
    CHECK_EQUAL(take(30), 2);
    CHECK_EQUAL(pbs_ring_slot(&ring, 1)->start, 40);
    CHECK_EQUAL(pbs_ring_slot(&ring, 2)->start, 0);
    CHECK_EQUAL(take(11), -1); /* up to the oldest, at 40 */
    CHECK_EQUAL(take(10), 3);
    pbs_ring_unmap(&ring);
}

static void room_is_given_back_oldest_first(void)
{
    begin(100);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(take(25), i);
    pbs_ring_release(&ring, 1);
    pbs_ring_release(&ring, 2);
    CHECK_EQUAL(take(25), -1);
    pbs_ring_release(&ring, 0);
    CHECK_EQUAL(take(75), 4);
    pbs_ring_unmap(&ring);
}

static void an_empty_ring_takes_more_than_its_limit(void)
{
    begin(100);
    ring.limit = 50;
    CHECK_EQUAL(take(100), 0);
    CHECK_EQUAL(take(1), -1);
    pbs_ring_release(&ring, 0);
    CHECK_EQUAL(take(50), 1);
    CHECK_EQUAL(take(1), -1);
    pbs_ring_unmap(&ring);
}

static void pieces_are_handed_out_in_order_once_ready(void)
{
    begin(100);
    take(10);
    take(10);
    pbs_ring_slot(&ring, 0)->state = PBS_SLOT_FILLING;
    CHECK(pbs_ring_ready(&ring) == NULL);
    pbs_ring_slot(&ring, 0)->state = PBS_SLOT_READY;
    CHECK(pbs_ring_ready(&ring) == pbs_ring_slot(&ring, 0));
    CHECK_EQUAL(pbs_ring_hand_out(&ring), 0);
    CHECK_EQUAL(pbs_ring_hand_out(&ring), 1);
    CHECK(pbs_ring_ready(&ring) == NULL);
    pbs_ring_unmap(&ring);
}

/* A piece that is given back before its turn is passed over, wherever it lies. */
static void pieces_may_be_given_back_before_their_turn(void)
{
    begin(100);
    for (int i = 0; i < 5; i++)
        CHECK_EQUAL(take(20), i);
    pbs_ring_slot(&ring, 0)->state = PBS_SLOT_FILLING;
    pbs_ring_release(&ring, 2);
    CHECK(pbs_ring_ready(&ring) == NULL);
    pbs_ring_release(&ring, 0);
    CHECK_EQUAL(pbs_ring_hand_out(&ring), 1);
    CHECK_EQUAL(pbs_ring_hand_out(&ring), 3);
    pbs_ring_release(&ring, 4);
    CHECK(pbs_ring_ready(&ring) == NULL);
    CHECK_EQUAL(take(21), -1);
    pbs_ring_release(&ring, 3);
    pbs_ring_release(&ring, 1);
    CHECK_EQUAL(take(100), 5);
    CHECK_EQUAL(pbs_ring_hand_out(&ring), 5);
    CHECK_EQUAL(ring.most_used, 100);
    pbs_ring_unmap(&ring);
}

static void live_pieces_never_overlap(void)
{
    uint64_t seed = 20261123;
    uint8_t owner[1000];
    unsigned live[PBS_RING_SLOTS], n = 0;

    begin(sizeof owner);
    memset(owner, 0, sizeof owner);
    for (int round = 0; round < 200000; round++) {
        int64_t number = next_random(&seed) % 2 ? take(1 + next_random(&seed) % 400) : -1;
        if (number >= 0) {
            const struct pbs_slot *slot = pbs_ring_slot(&ring, (uint64_t)number);
            CHECK(slot->size <= sizeof owner - slot->start);
            for (size_t i = 0; i < slot->size; i++)
                CHECK_EQUAL(owner[slot->start + i]++, 0);
            live[n++] = (unsigned)number;
        } else if (n) {
            unsigned at = (unsigned)(next_random(&seed) % n);
            const struct pbs_slot *slot = pbs_ring_slot(&ring, live[at]);
            memset(owner + slot->start, 0, slot->size);
            pbs_ring_release(&ring, live[at]);
            live[at] = live[--n];
        }
    }
    CHECK(ring.end > 10000);
    pbs_ring_unmap(&ring);
}

int main(void)
{
    RUN(pieces_follow_each_other_and_go_round);
    RUN(room_is_given_back_oldest_first);
    RUN(an_empty_ring_takes_more_than_its_limit);
    RUN(pieces_are_handed_out_in_order_once_ready);
    RUN(pieces_may_be_given_back_before_their_turn);
    RUN(live_pieces_never_overlap);
    return 0;
}
