/* Random choices for samples: a stream of Philox words that is a pure function of a seed and of what the stream is for,
 * so any sample can be made alone, in any order, on any machine. Local. */
#ifndef LUCID_RUNTIME_EVAL_DRAWS_H
#define LUCID_RUNTIME_EVAL_DRAWS_H

#include <stdint.h>

#define LUCID_DRAWN_MAX 40 /* characters of a drawn text, its NUL included: a uuid has 36 */

typedef struct {
    uint32_t key[2], counter[4], words[4];
    int n_left; /* of words */
} lucid_draws;

/* Streams with other numbers share nothing. */
lucid_draws lucid_draws_begin(uint64_t seed, uint32_t purpose, uint32_t cell, uint32_t index);

/* 0..n-1, each as likely. */
uint32_t lucid_draws_below(lucid_draws *draws, uint32_t n);

/* text (LUCID_DRAWN_MAX): "steady-lantern"; seven digits, the first not 0; a uuid of version 4. */
void lucid_draws_word(char *text, lucid_draws *draws);
void lucid_draws_number(char *text, lucid_draws *draws);
void lucid_draws_uuid(char *text, lucid_draws *draws);

#endif
