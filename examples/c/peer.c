/* A client in C, written from docs/layout.md alone: connects, calls, and checks what comes back.
 *
 * usage: peer PATH CALLS        The server must invert every byte. Prints "CALLS calls" when all were answered. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "layout.h"

static void require(int is_true, const char *what) {
    if (!is_true) {
        fprintf(stderr, "peer: %s\n", what);
        exit(1);
    }
}

static void put32(uint8_t *at, uint32_t value) {
    for (int byte = 0; byte < 4; byte++) at[byte] = (uint8_t)(value >> 8 * byte);
}

static uint64_t get(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int byte = bytes; byte-- > 0;) value = value << 8 | at[byte];
    return value;
}

static int connect_to(const char *path) {
    int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    require(socket_fd >= 0 && strlen(path) < sizeof address.sun_path, "a socket and a path that fits");
    strcpy(address.sun_path, path);
    require(connect(socket_fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    return socket_fd;
}

/* HELLO: protocol 1, layout 1, one slot, whatever capacity the server states, plain bytes. */
static void say_hello(int socket_fd) {
    uint8_t hello[39] = {1, 'W', 'W', 'H', 'I', 1, 0, 1, 0};
    put32(hello + 9, 1);
    put32(hello + 13, 1);
    put32(hello + 17, 0xffffffff);
    hello[33] = 5;
    memcpy(hello + 34, "bytes", 5);
    require(send(socket_fd, hello, sizeof hello, MSG_NOSIGNAL) == sizeof hello, "HELLO");
}

/* WELCOME with three descriptors: memory, server's bell, client's bell. */
static void read_welcome(int socket_fd, uint8_t welcome[20], int descriptors[3]) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec part = {welcome, 20};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    require(recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC) == 20 && welcome[0] == 3, "WELCOME");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    require(header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(3 * sizeof(int)),
            "three descriptors");
    require(welcome[1] == 1 && get(welcome + 2, 2) == 1 && get(welcome + 4, 4) == 1, "protocol 1 and one slot");
    memcpy(descriptors, CMSG_DATA(header), 3 * sizeof(int));
}

static void check_header(const uint8_t *memory, uint64_t capacity, uint64_t size) {
    const struct header *header = (const struct header *)memory;
    require(memcmp(header->magic, "WIGWAG\0\xf5", 8) == 0, "the magic");
    require(header->layout_version == 1 && header->page_size == PAGE, "the layout's version and page");
    require(header->slots == 1 && header->capacity == capacity, "slots and capacity");
    require(header->body_stride == body_stride(capacity), "the stride");
    require(header->deadlines_offset == deadlines_offset(1) && header->bodies_offset == bodies_offset(1), "offsets");
    require(header->segment_size == size && size == segment_size(1, capacity), "the size");
    require(header->contract_hash == 0xafd3c1fa55851ca4ull, "the contract's hash");
}

struct session {
    int socket_fd, server_bell, client_bell;
    uint8_t *memory;
};

static void wait_for_turn(struct session *session, word *turn) {
    while (__atomic_fetch_or(turn, TURN_WAKE, __ATOMIC_ACQ_REL) & TURN_SERVER) {
        struct pollfd sleep_on[2] = {{session->client_bell, POLLIN, 0}, {session->socket_fd, POLLIN, 0}};
        require(poll(sleep_on, 2, 20000) > 0, "an answer within 20 seconds");
        require(sleep_on[1].revents == 0, "a server that lives");
        uint64_t rings;
        if (sleep_on[0].revents) require(read(session->client_bell, &rings, 8) == 8, "the bell");
    }
}

static void call(struct session *session, uint64_t sequence, uint32_t len) {
    struct slot_line *line = (struct slot_line *)(session->memory + LINES);
    struct server_line *server = (struct server_line *)(session->memory + SERVER_LINE);
    uint8_t *body = session->memory + bodies_offset(1);
    uint8_t *payload = len > INLINE_CAPACITY ? body : line->inline_payload;
    for (uint32_t index = 0; index < len; index++) payload[index] = (uint8_t)(index * 7 + sequence);
    uint64_t head = HEAD_REQUEST | len | (len > INLINE_CAPACITY ? HEAD_IN_BODY : 0);
    __atomic_store_n(&line->head, head, __ATOMIC_RELAXED);
    __atomic_exchange_n(&line->turn, sequence << 8 | TURN_SERVER, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&server->waiting, __ATOMIC_RELAXED) &&
        __atomic_exchange_n(&server->waiting, 0, __ATOMIC_ACQ_REL)) {
        uint64_t one = 1;
        require(write(session->server_bell, &one, 8) == 8, "the ring");
    }
    wait_for_turn(session, &line->turn);
    uint64_t turn = __atomic_load_n(&line->turn, __ATOMIC_ACQUIRE);
    require(turn >> 8 == sequence, "the request's sequence in the reply");
    head = __atomic_load_n(&line->head, __ATOMIC_RELAXED);
    require((head & ~HEAD_IN_BODY) == (HEAD_REPLY | len), "a reply of that length");
    payload = head & HEAD_IN_BODY ? body : line->inline_payload;
    for (uint32_t index = 0; index < len; index++)
        require(payload[index] == (uint8_t) ~(index * 7 + sequence), "every byte inverted");
}

int main(int count, char **arguments) {
    require(count == 3, "usage: peer PATH CALLS");
    struct session session;
    uint8_t welcome[20];
    int descriptors[3];
    session.socket_fd = connect_to(arguments[1]);
    say_hello(session.socket_fd);
    read_welcome(session.socket_fd, welcome, descriptors);
    session.server_bell = descriptors[1];
    session.client_bell = descriptors[2];
    uint64_t capacity = get(welcome + 8, 4), size = get(welcome + 12, 8);
    session.memory = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptors[0], 0);
    require(session.memory != MAP_FAILED, "the mapping");
    check_header(session.memory, capacity, size);
    struct client_line *line = (struct client_line *)(session.memory + CLIENT_LINE);
    __atomic_store_n(&line->depth, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&line->think_ns, 0xffffffff, __ATOMIC_RELAXED);
    uint8_t ready = 2;
    require(send(session.socket_fd, &ready, 1, MSG_NOSIGNAL) == 1, "READY");
    uint32_t lengths[] = {0, 1, 48, 49, 1000, (uint32_t)capacity};
    unsigned calls = (unsigned)atoi(arguments[2]);
    for (unsigned sequence = 1; sequence <= calls; sequence++) call(&session, sequence, lengths[sequence % 6]);
    printf("%u calls\n", calls);
    return 0;
}
