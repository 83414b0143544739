/* The layout of docs/layout.md in C, written from that text alone. Freestanding, so that it can be checked for a target
 * whose libraries are not there. */
#ifndef WIGWAG_LAYOUT_H
#define WIGWAG_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum { PAGE = 4096, CLIENT_LINE = 1024, SERVER_LINE = 1152, LINES = 4096, LINE = 64, INLINE_CAPACITY = 48 };

/* Words are aligned to their size on every target; where the ABI does not do that by itself, it is said. */
typedef uint64_t word __attribute__((aligned(8)));

struct header {
    uint8_t magic[8];
    uint32_t layout_version, page_size, slots, capacity;
    word body_stride, deadlines_offset, bodies_offset, segment_size, contract_hash;
};

struct client_line {
    uint32_t depth, think_ns, only_processor, processor;
};

struct server_line {
    uint32_t waiting, only_processor, processor;
};

struct slot_line {
    word turn, head;
    uint8_t inline_payload[INLINE_CAPACITY];
};

#define TURN_SERVER 1u
#define TURN_WAKE 2u
#define HEAD_REQUEST (1ull << 32)
#define HEAD_REPLY (2ull << 32)
#define HEAD_IN_BODY (1ull << 40)

_Static_assert(sizeof(struct header) == 64, "header");
_Static_assert(offsetof(struct header, layout_version) == 8, "layout_version");
_Static_assert(offsetof(struct header, page_size) == 12, "page_size");
_Static_assert(offsetof(struct header, slots) == 16, "slots");
_Static_assert(offsetof(struct header, capacity) == 20, "capacity");
_Static_assert(offsetof(struct header, body_stride) == 24, "body_stride");
_Static_assert(offsetof(struct header, deadlines_offset) == 32, "deadlines_offset");
_Static_assert(offsetof(struct header, bodies_offset) == 40, "bodies_offset");
_Static_assert(offsetof(struct header, segment_size) == 48, "segment_size");
_Static_assert(offsetof(struct header, contract_hash) == 56, "contract_hash");
_Static_assert(offsetof(struct client_line, processor) == 12, "client line");
_Static_assert(offsetof(struct server_line, processor) == 8, "server line");
_Static_assert(sizeof(struct slot_line) == LINE, "slot line");
_Static_assert(offsetof(struct slot_line, head) == 8, "head");
_Static_assert(offsetof(struct slot_line, inline_payload) == 16, "inline");

static inline uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
static inline uint64_t deadlines_offset(uint64_t slots) { return LINES + LINE * slots; }
static inline uint64_t bodies_offset(uint64_t slots) { return round_up(deadlines_offset(slots) + 8 * slots, PAGE); }
static inline uint64_t body_stride(uint64_t capacity) { return round_up(capacity > 1024 ? capacity : 1024, PAGE); }
static inline uint64_t segment_size(uint64_t slots, uint64_t capacity) {
    return bodies_offset(slots) + body_stride(capacity) * slots;
}

#endif
