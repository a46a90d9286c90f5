/*
 * Calls for memory, threads and descriptors that fail when they are told to: the modules under test
 * are linked with these in the place of the C library's (see the Makefile), tests themselves are not.
 */
#ifndef PBS_TESTS_FAILING_H
#define PBS_TESTS_FAILING_H

#include <stdatomic.h>
#include <stddef.h>

struct failing {
    atomic_long calls; /* so far, since failing_from */
    long first;        /* the first that fails, from 1 on; 0: none */
    long last;
};

extern struct failing failing;

/* Let calls number first to last fail, from now on; 0: none. */
void failing_from(long first, long last);

/* Whether one has failed since. */
int failing_has(void);

#endif
