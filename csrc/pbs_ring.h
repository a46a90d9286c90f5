/*
 * A ring of memory for pieces of any sizes, each in one run of addresses. They are taken one behind
 * the other, handed out in that order, and given back in any.
 *
 * Callers keep it under a lock of their own; what lies in a slot belongs to who took it, then to
 * whom it was handed out.
 */
#ifndef PBS_RING_H
#define PBS_RING_H

#include <stddef.h>
#include <stdint.h>

#define PBS_RING_SLOTS 2048u /* of 48 bytes; a power of two */

enum pbs_slot_state { PBS_SLOT_FILLING, PBS_SLOT_READY, PBS_SLOT_OUT, PBS_SLOT_FREE };

struct pbs_slot {
    size_t start; /* in the ring's memory */
    size_t size;
    size_t head_len; /* the user's, as body_len and job */
    size_t body_len;
    uint64_t job;
    enum pbs_slot_state state;
};

struct pbs_ring {
    uint8_t *memory;
    size_t size;
    size_t limit; /* what pieces share of it; one that needs more has the ring for itself */
    size_t tail;  /* where the next piece goes, if there is room behind it */
    int wrapped;  /* the tail is before the oldest live slot */
    struct pbs_slot slots[PBS_RING_SLOTS]; /* slot s at s % PBS_RING_SLOTS; live: [first, end) */
    uint64_t first;
    uint64_t next; /* to be handed out */
    uint64_t end;
    size_t used;      /* bytes of the slots that are not free */
    size_t most_used; /* so far */
};

/* Map size bytes, all of which may be used, into a ring that is all zero. PBS_OK, PBS_E_NOMEM. */
int pbs_ring_map(struct pbs_ring *ring, size_t size);
void pbs_ring_unmap(struct pbs_ring *ring);

/* Find size bytes, of the ring's size at most, behind the newest slot; 0 if there is no room now. */
int pbs_ring_find(const struct pbs_ring *ring, size_t size, size_t *out_start);

/* Make a slot of what pbs_ring_find just found; returns its number. */
uint64_t pbs_ring_take(struct pbs_ring *ring, const struct pbs_slot *slot);

static inline struct pbs_slot *pbs_ring_slot(struct pbs_ring *ring, uint64_t number)
{
    return &ring->slots[number % PBS_RING_SLOTS];
}

/* The slot to be handed out next, if it is ready, else NULL. */
struct pbs_slot *pbs_ring_ready(struct pbs_ring *ring);

/* Hand it out; returns its number. */
uint64_t pbs_ring_hand_out(struct pbs_ring *ring);

/* The memory of a slot that was handed out, or is not to be, may serve another piece. */
void pbs_ring_release(struct pbs_ring *ring, uint64_t number);

#endif
