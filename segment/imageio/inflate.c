/* The tables and the order of the steps are those of libdeflate (Eric Biggers, MIT licence,
 * lib/deflate_decompress.c), which takes a third of the time of the decoders that go
 * byte by byte: 64 bits of input at a time, literals decoded up to three per refill, one table
 * entry with the base, the extra bits and the bits to drop, matches copied in words. Unlike
 * libdeflate it keeps its state between calls. */
#include "inflate.h"

#include <string.h>

/* A table entry: bits 0-7, how many input bits it uses (code and extra bits); bits 8-11,
 * how many of them are the code, or, of a subtable, how many bits index it; bits 16-30 a
 * literal, the base of a length or distance, or the place of a subtable. SPECIAL alone
 * stands for no code. */
#define LITERAL (1u << 31)
#define SPECIAL (1u << 15)
#define SUBTABLE (1u << 14)
#define END (1u << 13)
#define ENTRY_DROP(e) ((e) & 63)
#define ENTRY_CODE(e) ((e) >> 8 & 15)

enum { AT_HEADER, IN_STORED, IN_CODES, AT_END };

#define LOW(n) (((uint64_t)1 << (n)) - 1)

static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline void copy8(uint8_t *to, const uint8_t *from) {
    uint64_t v;
    memcpy(&v, from, 8);
    memcpy(to, &v, 8);
}

/* Takes input until at least 56 bits are there. Behind the end stand zeros, which are
 * counted: using them is an error. */
static void refill(inflater *s) {
    if (s->in_end - s->in >= 8) {
        s->bits |= load64(s->in) << s->count;
        s->in += (63 - s->count) >> 3;
        s->count |= 56;
        return;
    }
    for (; s->count < 56; s->count += 8) {
        if (s->in < s->in_end) s->bits |= (uint64_t)*s->in++ << s->count;
        else s->absent++;
    }
}

/* n bits; at most 56 in all between refills. */
static uint32_t take(inflater *s, unsigned n) {
    uint32_t v = (uint32_t)(s->bits & LOW(n));
    s->bits >>= n;
    s->count -= n;
    return v;
}

/* Gives whole bytes back to the input. False if zeros behind its end were used. */
static int settle(inflater *s) {
    uint32_t whole = s->count >> 3;
    if (whole < s->absent) return 0;
    s->in -= whole - s->absent;
    s->absent = 0;
    s->count &= 7;
    s->bits &= LOW(s->count);
    return 1;
}

/* Makes the table, indexed by `root` bits of input, for n codes of the given lengths;
 * entries[i] is that of code i with its extra bits in bits 0-7. Returns 0 unless the codes
 * use up all bit patterns; as in zlib none at all, or one of a single bit, will do. */
static int build(uint32_t *table, unsigned root, const uint8_t *lengths, const uint32_t *entries, unsigned n) {
    uint16_t count[16] = {0}, place[16], sorted[288];
    for (unsigned i = 0; i < n; i++) count[lengths[i]]++;
    unsigned longest = 15, codes = n - count[0];
    while (longest > 0 && count[longest] == 0) longest--;
    int left = 1;
    for (unsigned len = 1; len <= longest; len++) {
        left = 2 * left - count[len];
        if (left < 0) return 0;
    }
    if (left > 0 && longest > 1) return 0;
    place[1] = 0;
    for (unsigned len = 1; len < 15; len++) place[len + 1] = place[len] + count[len];
    for (unsigned i = 0; i < n; i++)
        if (lengths[i]) sorted[place[lengths[i]]++] = (uint16_t)i;
    if (left > 0) {
        for (uint32_t i = 0; i < 1u << root; i++)
            table[i] = codes == 1 && !(i & 1) ? entries[sorted[0]] + 0x101 : SPECIAL;
        return 1;
    }

    /* Codes in order of length; code runs through them with its bits reversed, as the input
     * has them. The table holds `size` entries so far and is doubled with every bit. */
    unsigned len = 1, i = 0;
    while (count[len] == 0) len++;
    uint32_t code = 0, size = 1u << (len < root ? len : root);
    uint32_t start = 0, end = 1u << root, sub = 0, sub_root = ~0u; /* the subtable being filled */
    for (;;) {
        uint32_t bits = len > root ? len - root : len;
        uint32_t entry = entries[sorted[i]] + bits * 0x101;
        if (len <= root) {
            table[code] = entry;
        } else {
            if ((code & LOW(root)) != sub_root) {
                /* The subtable must take the longest code that begins like this one. */
                sub_root = code & LOW(root);
                sub = len - root;
                for (int room = (1 << sub) - count[len]; room > 0; room = 2 * room - count[root + sub]) sub++;
                start = end;
                end += 1u << sub;
                table[sub_root] = SPECIAL | SUBTABLE | start << 16 | sub << 8 | root;
            }
            for (uint32_t j = start + (code >> root); j < end; j += 1u << (len - root)) table[j] = entry;
        }
        i++;
        count[len]--;
        if (code == LOW(len)) break; /* all ones: the last */
        uint32_t bit = (uint32_t)1 << (31 - __builtin_clz(code ^ (uint32_t)LOW(len)));
        code = (code & (bit - 1)) | bit;
        while (count[len] == 0) {
            if (len++ < root) {
                memcpy(table + size, table, size * sizeof *table);
                size *= 2;
            }
        }
    }
    for (; size < 1u << root; size *= 2) memcpy(table + size, table, size * sizeof *table);
    return 1;
}

/* The entries of the codes: RFC 1951, 3.2.5. */
#define L(base, extra) ((uint32_t)(base) << 16 | (extra))
#define LIT1(v) (LITERAL | (uint32_t)(v) << 16)
#define LIT4(v) LIT1(v), LIT1(v + 1), LIT1(v + 2), LIT1(v + 3)
#define LIT16(v) LIT4(v), LIT4(v + 4), LIT4(v + 8), LIT4(v + 12)
#define LIT64(v) LIT16(v), LIT16(v + 16), LIT16(v + 32), LIT16(v + 48)
static const uint32_t litlen_entries[288] = {
    LIT64(0), LIT64(64), LIT64(128), LIT64(192), SPECIAL | END,
    L(3, 0), L(4, 0), L(5, 0), L(6, 0), L(7, 0), L(8, 0), L(9, 0), L(10, 0), L(11, 1), L(13, 1), L(15, 1), L(17, 1),
    L(19, 2), L(23, 2), L(27, 2), L(31, 2), L(35, 3), L(43, 3), L(51, 3), L(59, 3), L(67, 4), L(83, 4), L(99, 4), L(115, 4),
    L(131, 5), L(163, 5), L(195, 5), L(227, 5), L(258, 0), SPECIAL, SPECIAL,
};
static const uint32_t dist_entries[32] = {
    L(1, 0), L(2, 0), L(3, 0), L(4, 0), L(5, 1), L(7, 1), L(9, 2), L(13, 2), L(17, 3), L(25, 3), L(33, 4), L(49, 4), L(65, 5), L(97, 5),
    L(129, 6), L(193, 6), L(257, 7), L(385, 7), L(513, 8), L(769, 8), L(1025, 9), L(1537, 9), L(2049, 10), L(3073, 10),
    L(4097, 11), L(6145, 11), L(8193, 12), L(12289, 12), L(16385, 13), L(24577, 13), SPECIAL, SPECIAL,
};

/* The entry that the next bits name in a table; those of its first part are dropped where it
 * lies in a subtable. */
#define LOOK_UP(e, table, root)                                                   \
    do {                                                                          \
        e = (table)[bits & LOW(root)];                                            \
        if ((e & (SPECIAL | SUBTABLE)) == (SPECIAL | SUBTABLE)) {                 \
            bits >>= root, count -= root;                                         \
            e = (table)[(e >> 16) + (bits & LOW(ENTRY_CODE(e)))];                 \
        }                                                                         \
    } while (0)

/* Writes a match of len bytes from the given distance before out; up to 15 bytes more may be
 * written. */
static inline void copy_match(uint8_t *out, uint32_t distance, uint32_t len) {
    const uint8_t *from = out - distance, *end = out + len;
    if (distance >= 8) {
        do {
            copy8(out, from);
            copy8(out + 8, from + 8);
            out += 16, from += 16;
        } while (out < end);
    } else if (distance == 3 || distance > 4) {
        do { /* of each word the first bytes are right, the rest is overwritten by the next */
            copy8(out, from);
            out += distance, from += distance;
        } while (out < end);
    } else { /* runs of one value of 8, 16 or 32 bits, which images have many of */
        uint8_t value[8];
        for (unsigned i = 0; i < 8; i++) value[i] = from[i & (distance - 1)];
        do {
            copy8(out, value);
            copy8(out + 8, value);
            out += 16;
        } while (out < end);
    }
}

/* The codes of a block, one after the other, while neither the input's end nor out_end is
 * near: all but the last bytes of a file. The next code is looked up before the bits behind it
 * are fetched, so that the two go on side by side. Returns what inflate_run does, or -1 at the
 * block's end. */
static inline __attribute__((always_inline)) int codes_fast(inflater *s) {
    const uint8_t *in = s->in, *in_end = s->in_end - 32, *history = s->history;
    uint8_t *out = s->out, *out_end = s->out_end;
    const uint32_t *litlen = s->litlen, *dist = s->dist;
    uint64_t bits = s->bits;
    uint32_t count = s->count, e;
    int result = INFLATE_OUTPUT;
#define REFILL() (bits |= load64(in) << (count & 63), in += (63 - count) >> 3, count |= 56)
#define DROP(e) (bits >>= ENTRY_DROP(e), count -= ENTRY_DROP(e))
#define NEXT() (e = litlen[bits & LOW(INFLATE_LITLEN_BITS)])
    REFILL();
    NEXT();
    while (out < out_end) {
        if (in >= in_end) {
            result = INFLATE_INPUT;
            break;
        }
        REFILL();
        /* Three literals of at most 11 bits leave 23 of 56, two 34: enough for a length's 20, and
         * every way to the next round leaves the 11 that NEXT wants. */
        if (e & LITERAL) {
            *out++ = (uint8_t)(e >> 16), DROP(e), NEXT();
            if (e & LITERAL) {
                *out++ = (uint8_t)(e >> 16), DROP(e), NEXT();
                if (e & LITERAL) {
                    *out++ = (uint8_t)(e >> 16), DROP(e), NEXT();
                    continue;
                }
            }
        }
        if (e & SPECIAL) {
            if (e & SUBTABLE) {
                bits >>= INFLATE_LITLEN_BITS, count -= INFLATE_LITLEN_BITS;
                e = litlen[(e >> 16) + (bits & LOW(ENTRY_CODE(e)))];
                if (e & LITERAL) {
                    *out++ = (uint8_t)(e >> 16), DROP(e), NEXT();
                    continue;
                }
            }
            if (e & SPECIAL) {
                DROP(e);
                result = e & END ? -1 : INFLATE_DAMAGED;
                break;
            }
        }
        uint32_t len = (e >> 16) + (uint32_t)((bits & LOW(ENTRY_DROP(e))) >> ENTRY_CODE(e));
        DROP(e);
        if (count < 28 + INFLATE_LITLEN_BITS) REFILL();
        LOOK_UP(e, dist, INFLATE_DIST_BITS);
        uint32_t distance = (e >> 16) + (uint32_t)((bits & LOW(ENTRY_DROP(e))) >> ENTRY_CODE(e));
        DROP(e);
        if ((e & SPECIAL) || distance > (size_t)(out - history)) {
            result = INFLATE_DAMAGED;
            break;
        }
        NEXT();
        copy_match(out, distance, len);
        out += len;
    }
    s->in = in, s->out = out, s->bits = bits, s->count = count;
    return result;
}

#if defined(__x86_64__)
static __attribute__((target("bmi2"))) int codes_bmi2(inflater *s) { return codes_fast(s); }
#endif
static int codes_plain(inflater *s) { return codes_fast(s); }

/* The same with every step checked against the end of the input. */
static int codes_slow(inflater *s) {
    while (s->out < s->out_end) {
        refill(s);
        uint64_t bits = s->bits;
        uint32_t count = s->count, e;
        LOOK_UP(e, s->litlen, INFLATE_LITLEN_BITS);
        uint32_t len = (e >> 16) + (uint32_t)((bits & LOW(ENTRY_DROP(e))) >> ENTRY_CODE(e));
        bits >>= ENTRY_DROP(e), count -= ENTRY_DROP(e);
        s->bits = bits, s->count = count;
        if (count >> 3 < s->absent) return INFLATE_TRUNCATED;
        if (e & LITERAL) {
            *s->out++ = (uint8_t)len;
            continue;
        }
        if (e & SPECIAL) return e & END ? -1 : INFLATE_DAMAGED;
        LOOK_UP(e, s->dist, INFLATE_DIST_BITS); /* 56 bits were there, a length and a distance take 48 */
        uint32_t distance = (e >> 16) + (uint32_t)((bits & LOW(ENTRY_DROP(e))) >> ENTRY_CODE(e));
        bits >>= ENTRY_DROP(e), count -= ENTRY_DROP(e);
        s->bits = bits, s->count = count;
        if (count >> 3 < s->absent) return INFLATE_TRUNCATED;
        if ((e & SPECIAL) || distance > (size_t)(s->out - s->history)) return INFLATE_DAMAGED;
        copy_match(s->out, distance, len);
        s->out += len;
    }
    return INFLATE_OUTPUT;
}

/* Reads a block's header and makes its tables. */
static int header(inflater *s) {
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    static const uint32_t plain_entries[19] = {
        L(0, 0), L(1, 0), L(2, 0), L(3, 0), L(4, 0), L(5, 0), L(6, 0), L(7, 0), L(8, 0), L(9, 0), L(10, 0), L(11, 0), L(12, 0),
        L(13, 0), L(14, 0), L(15, 0), L(16, 0), L(17, 0), L(18, 0),
    };
    uint8_t lengths[288 + 32];
    refill(s);
    s->last = take(s, 1);
    uint32_t type = take(s, 2), literals = 288, distances = 32;
    if (type == 3) return 0;
    if (type == 0) {
        take(s, s->count & 7);
        refill(s);
        uint32_t n = take(s, 16);
        if (n != (take(s, 16) ^ 0xffff)) return 0;
        s->stored = n;
        s->state = IN_STORED;
        return 1;
    }
    s->state = IN_CODES;
    if (type == 1) {
        for (unsigned i = 0; i < 288; i++) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
        memset(lengths + 288, 5, 32);
    } else {
        literals = 257 + take(s, 5);
        distances = 1 + take(s, 5);
        uint32_t n = 4 + take(s, 4), table[128];
        if (literals > 286 || distances > 30) return 0; /* the others stand for nothing */
        memset(lengths, 0, 19);
        for (unsigned i = 0; i < n; i++) {
            if (i == 12) refill(s);
            lengths[order[i]] = (uint8_t)take(s, 3);
        }
        if (!build(table, 7, lengths, plain_entries, 19)) return 0;
        for (n = 0; n < literals + distances;) {
            refill(s);
            uint32_t e = table[s->bits & 127], v = e >> 16, repeat = 1;
            if (e & SPECIAL) return 0;
            take(s, ENTRY_DROP(e));
            if (s->count >> 3 < s->absent) return 0;
            if (v == 16) {
                if (n == 0) return 0;
                v = lengths[n - 1], repeat = 3 + take(s, 2);
            } else if (v > 16) {
                repeat = v == 17 ? 3 + take(s, 3) : 11 + take(s, 7);
                v = 0;
            }
            if (repeat > literals + distances - n) return 0;
            memset(lengths + n, (int)v, repeat);
            n += repeat;
        }
        if (lengths[256] == 0) return 0; /* the block would never end */
    }
    return build(s->litlen, INFLATE_LITLEN_BITS, lengths, litlen_entries, literals) &&
           build(s->dist, INFLATE_DIST_BITS, lengths + literals, dist_entries, distances);
}

int inflate_run(inflater *s, int whole) {
    int (*codes)(inflater *) = codes_plain;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("bmi2")) codes = codes_bmi2; /* shifts that take their count from any register */
#endif
    for (;;) {
        int result = -1; /* go on */
        if (s->out >= s->out_end && s->state != AT_END) return INFLATE_OUTPUT;
        switch (s->state) {
        case AT_HEADER:
            if (s->in_end - s->in < INFLATE_AHEAD && !whole) return INFLATE_INPUT;
            if (!header(s)) result = s->count >> 3 < s->absent ? INFLATE_TRUNCATED : INFLATE_DAMAGED;
            break;
        case IN_STORED: {
            size_t n = s->stored, in = (size_t)(s->in_end - s->in), out = (size_t)(s->out_end - s->out);
            if (n > in) n = in;
            if (n > out) n = out;
            memcpy(s->out, s->in, n);
            s->in += n, s->out += n, s->stored -= (uint32_t)n;
            if (s->stored == 0) s->state = s->last ? AT_END : AT_HEADER;
            else if (n == out) return INFLATE_OUTPUT;
            else return whole ? INFLATE_TRUNCATED : INFLATE_INPUT;
            continue;
        }
        case IN_CODES:
            result = INFLATE_INPUT;
            if (s->in_end - s->in >= 64) result = codes(s);
            if (result == INFLATE_INPUT && whole) result = codes_slow(s);
            if (result == -1) s->state = s->last ? AT_END : AT_HEADER;
            break;
        default: return INFLATE_END;
        }
        if (!settle(s)) result = INFLATE_TRUNCATED;
        if (result >= 0) return result;
    }
}
