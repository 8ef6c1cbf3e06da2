/* Sums whose order does not matter.
 *
 * Every term is rounded to a multiple of one unit before it is added to a double. As long as the sum stays below 2^53
 * units no addition rounds, so a sum has the same bits in whatever order and on however many ranks its terms come: what
 * a fixed tree of summation would buy with log2(terms) copies of everything, for one add more a term. The unit, 2^-44
 * or 6e-14, is far below what AdamW tells apart (its eps is 1e-8); gradients beyond LUCID_EXACT_LIMIT are refused.
 *
 * Losses are summed over a whole step or validation, so theirs is a unit of its own: 2^-24, with which sums are exact
 * to 2^29, as of 97 million bytes of which nothing is known. fp32 tells no two probabilities near 1 apart whose losses
 * differ by less. */
#ifndef LUCID_RUNTIME_TRAIN_EXACT_H
#define LUCID_RUNTIME_TRAIN_EXACT_H

/* A quarter of 2^53 units: the total is within it, and partial sums have room to be beyond. */
#define LUCID_EXACT_LIMIT 128.0

/* To a multiple of 2^-44: adding 1.5 * 2^52 units leaves no room for less. NaN and Inf stay. */
static inline double lucid_exact(double x) {
    const double shift = 384.0;
    return (x + shift) - shift;
}

/* The same of a loss: to a multiple of 2^-24. */
static inline double lucid_exact_loss(double x) {
    const double shift = 0x1.8p28;
    return (x + shift) - shift;
}

#endif
