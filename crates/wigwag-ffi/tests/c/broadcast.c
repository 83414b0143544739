/* The broadcast and each of its functions, with both sides in this process: `broadcast DIRECTORY`. */
#define _GNU_SOURCE

#include "check.h"

#include <pthread.h>

static const char *directory;
static char rooms[16][512];

static const char *name_of(const char *name)
{
    static int next;
    next = (next + 1) % 16;
    return path_of(rooms[next], sizeof rooms[next], directory, name);
}

static int count_states(const wigwag_subscriber_state *state, void *user)
{
    size_t *seen = user;
    if (state->size != sizeof *state || state->peer.pid != getpid() || state->is_same_user != 1)
        return 1;
    seen[0]++;
    seen[1] += state->lag;
    seen[2] += state->holds;
    return 0;
}

/* Each way in and each way out, of short messages and of long ones. */
static void messages(wigwag_error *error)
{
    wigwag_publisher *publisher, *second;
    wigwag_subscriber *subscriber;
    wigwag_sample *sample, *held[2];
    wigwag_peer peer;
    const void *bytes;
    unsigned char room[2000];
    void *data;
    size_t len;
    uint64_t sequence;

    wigwag_listen_options listening = {0};
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.history = 8;
    listening.capacity = 2000;
    listening.slots = 2; /* messages held by one subscriber */
    OK(wigwag_publisher_bind(name_of("messages"), &listening, &publisher, error));
    CHECK(strcmp(wigwag_publisher_path(publisher), name_of("messages")) == 0);
    IS(WIGWAG_ERR_NAME_TAKEN, wigwag_publisher_bind(name_of("messages"), NULL, &second, error));
    wigwag_client *client;
    IS(WIGWAG_ERR_CONTRACT_MISMATCH, wigwag_client_connect(name_of("messages"), NULL, &client, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_publisher_wait_for_subscribers(publisher, 1, 1000000, error));
    OK(wigwag_subscriber_connect(name_of("messages"), NULL, &subscriber, error));
    OK(wigwag_publisher_wait_for_subscribers(publisher, 1, LIMIT_NS, error));
    CHECK(wigwag_subscriber_capacity(subscriber) == 2000 && wigwag_subscriber_history(subscriber) == 8);
    OK(wigwag_subscriber_peer(subscriber, &peer, error));
    CHECK(peer.pid == getpid());
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_subscriber_recv(subscriber, 0, &sample, &bytes, &len, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_subscriber_recv(subscriber, 1000000, &sample, &bytes, &len, error));

    /* A short one, copied in; a long one, written where it will be read; one that was begun and is none. */
    OK(wigwag_publisher_send(publisher, "short", 5, WIGWAG_FOREVER, &sequence, error));
    CHECK(sequence == 1);
    OK(wigwag_publisher_loan(publisher, 2000, 0, &data, error));
    CHECK((uintptr_t)data % 16 == 0);
    IS(WIGWAG_ERR_IN_USE, wigwag_publisher_send(publisher, "x", 1, 0, NULL, error));
    IS(WIGWAG_ERR_IN_USE, wigwag_publisher_loan(publisher, 1, 0, &data, error));
    memset(data, 7, 2000);
    OK(wigwag_publisher_commit(publisher, &sequence, error));
    CHECK(sequence == 2);
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_commit(publisher, NULL, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_discard(publisher));
    OK(wigwag_publisher_loan(publisher, 8, LIMIT_NS, &data, error));
    OK(wigwag_publisher_discard(publisher));
    OK(wigwag_publisher_loan(publisher, 3, WIGWAG_FOREVER, &data, error));
    memcpy(data, "new", 3);
    OK(wigwag_publisher_commit(publisher, NULL, error));
    OK(wigwag_publisher_send(publisher, NULL, 0, LIMIT_NS, NULL, error));
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_publisher_send(publisher, room, 2001, 0, NULL, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_listen_options.capacity") != NULL);
    CHECK(wigwag_subscriber_lag(subscriber) == 4);

    OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, &bytes, &len, error));
    CHECK(len == 5 && memcmp(bytes, "short", 5) == 0 && (uintptr_t)bytes % 16 == 0);
    CHECK(wigwag_sample_sequence(sample) == 1 && wigwag_sample_lost_before(sample) == 0);
    CHECK(wigwag_sample_is_in_place(sample) == 0 && wigwag_sample_is_of_new_publisher(sample) == 0);
    OK(wigwag_sample_release(sample));
    OK(wigwag_subscriber_recv(subscriber, 0, &sample, NULL, NULL, error));
    OK(wigwag_sample_data(sample, &bytes, &len, error));
    CHECK(len == 2000 && ((const unsigned char *)bytes)[0] == 7 && ((const unsigned char *)bytes)[1999] == 7);
    CHECK(wigwag_sample_is_in_place(sample) == 1);
    size_t seen[3] = {0, 0, 0};
    OK(wigwag_publisher_subscribers(publisher, count_states, seen, error));
    CHECK(seen[0] == 1 && seen[1] == 2 && seen[2] == 1);
    OK(wigwag_sample_release(sample));

    /* Copied: into room enough, and one for which there is none at first. */
    wigwag_receipt receipt = {0};
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_subscriber_recv_copied(subscriber, 0, room, 9, &len, &receipt, error));
    receipt.size = sizeof receipt;
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_subscriber_recv_copied(subscriber, 0, room, 2, &len, &receipt, error));
    CHECK(len == 3 && wigwag_subscriber_lag(subscriber) == 2);
    OK(wigwag_subscriber_recv_copied(subscriber, 0, room, sizeof room, &len, &receipt, error));
    CHECK(len == 3 && memcmp(room, "new", 3) == 0 && receipt.sequence == 3 && receipt.size == sizeof receipt);
    OK(wigwag_subscriber_recv_copied(subscriber, LIMIT_NS, NULL, 0, &len, NULL, error));
    CHECK(len == 0 && wigwag_subscriber_lag(subscriber) == 0);

    /* As many are held as may be: one more is not lost, and is copied at least; also if it does not fit at first. */
    for (unsigned char at = 0; at < 4; at++) {
        memset(room, at, sizeof room);
        OK(wigwag_publisher_send(publisher, room, 100, 0, NULL, error));
    }
    for (int at = 0; at < 2; at++)
        OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &held[at], &bytes, &len, error));
    IS(WIGWAG_ERR_FULL, wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, &bytes, &len, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_subscriber_recv_copied()") != NULL);
    OK(wigwag_subscriber_recv_copied(subscriber, 0, room, sizeof room, &len, &receipt, error));
    CHECK(len == 100 && room[0] == 2 && room[99] == 2 && receipt.sequence == 7);
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_subscriber_recv_copied(subscriber, 0, room, 99, &len, NULL, error));
    OK(wigwag_subscriber_recv(subscriber, 0, &sample, &bytes, &len, error)); /* the copy that was made */
    CHECK(len == 100 && ((const unsigned char *)bytes)[99] == 3 && wigwag_sample_sequence(sample) == 8);
    CHECK(wigwag_sample_is_in_place(sample) == 0 && wigwag_sample_lost_before(sample) == 0);
    OK(wigwag_sample_release(sample));
    OK(wigwag_sample_release(held[0]));

    /* Too slow: what is kept is read, and the loss is told. What is held stays what it is. */
    for (unsigned char at = 0; at < 30; at++) {
        memset(room, at, sizeof room);
        OK(wigwag_publisher_send(publisher, room, 2000, 0, NULL, error));
    }
    OK(wigwag_subscriber_recv(subscriber, 0, &sample, &bytes, &len, error));
    CHECK(wigwag_sample_lost_before(sample) == 22 && ((const unsigned char *)bytes)[1999] == 22);
    OK(wigwag_sample_data(held[1], &bytes, &len, error));
    CHECK(len == 100 && ((const unsigned char *)bytes)[99] == 1);
    wigwag_subscriber_stats taken = {0};
    taken.size = sizeof taken;
    OK(wigwag_subscriber_statistics(subscriber, &taken, error));
    CHECK(taken.received == 9 && taken.lost == 22 && taken.may_hold == 2 && taken.held == 2 && taken.publishers == 0);
    wigwag_publisher_stats published = {0};
    published.size = sizeof published;
    OK(wigwag_publisher_statistics(publisher, &published, error));
    CHECK(published.published == 38 && published.subscribers == 1 && published.cut_off == 0);

    /* The end, with a message that was begun: what was published is read, and what is held outlives both. */
    OK(wigwag_publisher_loan(publisher, 2000, 0, &data, error));
    OK(wigwag_publisher_free(publisher));
    OK(wigwag_sample_release(sample));
    int left = 0;
    while (wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, NULL, NULL, error) == WIGWAG_OK) {
        OK(wigwag_sample_release(sample));
        left++;
    }
    CHECK(left == 7 && wigwag_error_code(error) == WIGWAG_ERR_ENDED);
    IS(WIGWAG_ERR_ENDED, wigwag_subscriber_recv_copied(subscriber, LIMIT_NS, room, sizeof room, &len, NULL, error));
    IS(WIGWAG_ERR_ENDED, wigwag_subscriber_process(subscriber, &sample, NULL, NULL, error));
    OK(wigwag_subscriber_free(subscriber));
    OK(wigwag_sample_data(held[1], &bytes, &len, error));
    CHECK(((const unsigned char *)bytes)[99] == 1);
    OK(wigwag_sample_release(held[1]));
}

/* What a subscriber begins with, and how it goes on at the next publisher. */
static void begin_and_go_on(wigwag_error *error)
{
    static const struct {
        int start;
        char first;
    } starts[] = {{WIGWAG_START_NEXT, '3'}, {WIGWAG_START_OLDEST, '1'}, {WIGWAG_START_LAST, '2'}};
    wigwag_publisher *publisher;
    wigwag_subscriber *subscriber;
    wigwag_sample *sample;
    wigwag_connect_options connecting = {0};
    const void *bytes;
    size_t len;

    connecting.size = sizeof connecting;
    for (size_t at = 0; at < 3; at++) {
        wigwag_listen_options listening = {0};
        listening.size = sizeof listening;
        listening.handshake_timeout_ns = LIMIT_NS;
        listening.has_no_holds = 1;
        OK(wigwag_publisher_bind(name_of("start"), &listening, &publisher, error));
        OK(wigwag_publisher_send(publisher, "1", 1, 0, NULL, error));
        OK(wigwag_publisher_send(publisher, "2", 1, 0, NULL, error));
        connecting.start = starts[at].start;
        OK(wigwag_subscriber_connect(name_of("start"), &connecting, &subscriber, error));
        OK(wigwag_publisher_send(publisher, "3", 1, 0, NULL, error));
        OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, &bytes, &len, error));
        CHECK(len == 1 && *(const char *)bytes == starts[at].first && wigwag_sample_lost_before(sample) == 0);
        wigwag_subscriber_stats stats = {0};
        stats.size = sizeof stats;
        OK(wigwag_subscriber_statistics(subscriber, &stats, error));
        CHECK(stats.may_hold == 0);
        OK(wigwag_sample_release(sample));
        OK(wigwag_subscriber_free(subscriber));
        OK(wigwag_publisher_free(publisher));
    }

    connecting.start = 0;
    connecting.reconnect_ns = LIMIT_NS;
    OK(wigwag_publisher_bind(name_of("next"), unhurried(), &publisher, error));
    OK(wigwag_subscriber_connect(name_of("next"), &connecting, &subscriber, error));
    int fd = wigwag_subscriber_fd(subscriber, error);
    OK(wigwag_publisher_send(publisher, "old", 3, 0, NULL, error));
    OK(wigwag_publisher_free(publisher));
    OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
    CHECK(sample != NULL && len == 3 && memcmp(bytes, "old", 3) == 0);
    OK(wigwag_sample_release(sample));
    OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
    CHECK(sample == NULL); /* none is there yet, and no descriptor tells of it */
    OK(wigwag_publisher_bind(name_of("next"), unhurried(), &publisher, error));
    for (int64_t until = now_ns() + LIMIT_NS; now_ns() < until; pause_ms(1)) {
        wigwag_subscriber_stats stats = {0};
        stats.size = sizeof stats;
        OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
        OK(wigwag_subscriber_statistics(subscriber, &stats, error));
        if (stats.publishers == 1)
            break;
    }
    CHECK(sample == NULL);
    OK(wigwag_publisher_send(publisher, "new", 3, 0, NULL, error));
    do {
        CHECK(is_readable(fd, LIMIT_MS));
        OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
    } while (sample == NULL);
    CHECK(len == 3 && memcmp(bytes, "new", 3) == 0 && wigwag_sample_is_of_new_publisher(sample) == 1);
    CHECK(wigwag_subscriber_fd(subscriber, error) == fd);
    OK(wigwag_sample_release(sample));
    OK(wigwag_subscriber_free(subscriber));
    OK(wigwag_publisher_free(publisher));
}

/* A publisher that waits for who has not read. */
static void patience(wigwag_error *error)
{
    wigwag_publisher *publisher;
    wigwag_subscriber *subscriber;
    wigwag_sample *sample;
    wigwag_listen_options listening = {0};
    int has_room;
    size_t subscribers, len;
    char byte;

    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.history = 1; /* and the one that is being replaced: so two have room */
    listening.overrun = WIGWAG_OVERRUN_WAIT; /* with no patience: it is full, and never waits */
    OK(wigwag_publisher_bind(name_of("patience"), &listening, &publisher, error));
    int fd = wigwag_publisher_fd(publisher, error);
    OK(wigwag_publisher_process(publisher, &has_room, &subscribers, error));
    CHECK(fd >= 0 && has_room == 1 && subscribers == 0 && !is_readable(fd, 0));
    OK(wigwag_subscriber_connect(name_of("patience"), NULL, &subscriber, error));
    CHECK(is_readable(fd, LIMIT_MS)); /* who comes is told */
    OK(wigwag_publisher_wait_for_subscribers(publisher, 1, LIMIT_NS, error));
    OK(wigwag_publisher_send(publisher, "1", 1, WIGWAG_FOREVER, NULL, error));
    OK(wigwag_publisher_send(publisher, "2", 1, 0, NULL, error));
    IS(WIGWAG_ERR_FULL, wigwag_publisher_send(publisher, "3", 1, 0, NULL, error));
    IS(WIGWAG_ERR_FULL, wigwag_publisher_send(publisher, "3", 1, WIGWAG_FOREVER, NULL, error));
    OK(wigwag_publisher_process(publisher, &has_room, &subscribers, error));
    CHECK(has_room == 0 && subscribers == 1 && !is_readable(fd, 0));
    OK(wigwag_subscriber_recv_copied(subscriber, LIMIT_NS, &byte, 1, &len, NULL, error));
    CHECK(byte == '1' && is_readable(fd, LIMIT_MS));
    OK(wigwag_publisher_process(publisher, &has_room, NULL, error));
    CHECK(has_room == 1);
    OK(wigwag_publisher_send(publisher, "3", 1, 0, NULL, error));
    OK(wigwag_publisher_free(publisher));
    OK(wigwag_subscriber_free(subscriber));

    listening.patience_ns = LIMIT_NS; /* a time of the call's own, and then whoever is too slow is cut off */
    OK(wigwag_publisher_bind(name_of("patience"), &listening, &publisher, error));
    OK(wigwag_subscriber_connect(name_of("patience"), NULL, &subscriber, error));
    OK(wigwag_publisher_wait_for_subscribers(publisher, 1, LIMIT_NS, error));
    OK(wigwag_publisher_send(publisher, "1", 1, 0, NULL, error));
    OK(wigwag_publisher_send(publisher, "2", 1, 0, NULL, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_publisher_send(publisher, "3", 1, 1000000, NULL, error));
    OK(wigwag_publisher_free(publisher));
    OK(wigwag_subscriber_free(subscriber));
    listening.patience_ns = 1000000;
    OK(wigwag_publisher_bind(name_of("patience"), &listening, &publisher, error));
    OK(wigwag_subscriber_connect(name_of("patience"), NULL, &subscriber, error));
    OK(wigwag_publisher_wait_for_subscribers(publisher, 1, LIMIT_NS, error));
    for (int at = 0; at < 3; at++)
        OK(wigwag_publisher_send(publisher, "x", 1, WIGWAG_FOREVER, NULL, error));
    wigwag_publisher_stats stats = {0};
    stats.size = sizeof stats;
    OK(wigwag_publisher_statistics(publisher, &stats, error));
    CHECK(stats.cut_off == 1);
    int code;
    do
        code = wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, NULL, NULL, error);
    while (code == WIGWAG_OK && wigwag_sample_release(sample) == WIGWAG_OK);
    IS(WIGWAG_ERR_REFUSED, code);
    OK(wigwag_subscriber_free(subscriber));
    OK(wigwag_publisher_free(publisher));
}

/* Subscribers in one event loop, and the end as it shows it. */
static void loops(wigwag_error *error)
{
    wigwag_publisher *publisher;
    wigwag_subscriber *subscriber;
    wigwag_sample *sample;
    const void *bytes;
    size_t len;

    OK(wigwag_publisher_bind(name_of("loop"), unhurried(), &publisher, error));
    OK(wigwag_subscriber_connect(name_of("loop"), NULL, &subscriber, error));
    int fd = wigwag_subscriber_fd(subscriber, error);
    CHECK(fd >= 0 && wigwag_subscriber_fd(subscriber, error) == fd);
    for (int round = 0; round < 100; round++) {
        /* The session itself may have something to say, but not again and again. */
        int looks = 0;
        do {
            OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
            CHECK(sample == NULL && looks++ < 10);
        } while (is_readable(fd, 0));
        OK(wigwag_publisher_send(publisher, &round, sizeof round, 0, NULL, error));
        CHECK(is_readable(fd, LIMIT_MS));
        do
            OK(wigwag_subscriber_process(subscriber, &sample, &bytes, &len, error));
        while (sample == NULL);
        CHECK(len == sizeof round && memcmp(bytes, &round, sizeof round) == 0);
        OK(wigwag_sample_release(sample));
    }
    OK(wigwag_subscriber_process(subscriber, &sample, NULL, NULL, error));
    CHECK(sample == NULL);
    OK(wigwag_publisher_free(publisher));
    CHECK(is_readable(fd, LIMIT_MS));
    IS(WIGWAG_ERR_ENDED, wigwag_subscriber_process(subscriber, &sample, NULL, NULL, error));
    OK(wigwag_subscriber_free(subscriber));
}

static void *wait_for_three(void *argument)
{
    int code;
    do /* the other thread may look just now */
        code = wigwag_publisher_wait_for_subscribers(argument, 3, WIGWAG_FOREVER, NULL);
    while (code == WIGWAG_ERR_IN_USE);
    return (void *)(intptr_t)code;
}

/* A thread that waits, one that comes in between, and the end by a third handle. */
static void threads(wigwag_error *error)
{
    wigwag_publisher *publisher, *second;
    wigwag_subscriber *subscriber;
    wigwag_stop *stop;
    pthread_t thread;
    void *result;
    int code = WIGWAG_OK;

    OK(wigwag_publisher_bind(name_of("threads"), unhurried(), &publisher, error));
    OK(wigwag_subscriber_connect(name_of("threads"), NULL, &subscriber, error));
    OK(wigwag_publisher_stop(publisher, &stop, error));
    CHECK(pthread_create(&thread, NULL, wait_for_three, publisher) == 0);
    for (int64_t until = now_ns() + LIMIT_NS; code != WIGWAG_ERR_IN_USE && now_ns() < until; pause_ms(1))
        code = wigwag_publisher_send(publisher, "x", 1, 0, NULL, error);
    CHECK(code == WIGWAG_ERR_IN_USE);
    IS(WIGWAG_ERR_IN_USE, wigwag_publisher_free(publisher));
    OK(wigwag_stop_shutdown(stop));
    CHECK(pthread_join(thread, &result) == 0 && (intptr_t)result == WIGWAG_ERR_SERVER_CLOSED);
    IS(WIGWAG_ERR_SERVER_CLOSED, wigwag_publisher_send(publisher, "x", 1, 0, NULL, error));
    OK(wigwag_publisher_bind(name_of("threads"), unhurried(), &second, error)); /* the name is free */
    OK(wigwag_publisher_free(second));
    OK(wigwag_stop_free(stop));
    OK(wigwag_publisher_free(publisher));
    wigwag_sample *sample;
    do
        code = wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, NULL, NULL, error);
    while (code == WIGWAG_OK && wigwag_sample_release(sample) == WIGWAG_OK);
    IS(WIGWAG_ERR_ENDED, code);
    OK(wigwag_subscriber_free(subscriber));
}

static int never(const wigwag_subscriber_state *state, void *user)
{
    (void)state;
    (void)user;
    return 0;
}

static int find(const char *path, const wigwag_service *service, void *user)
{
    wigwag_service *found = user;
    if (strcmp(path, name_of("mistakes")) != 0)
        return 0;
    *found = *service;
    return 1;
}

static void mistakes(wigwag_error *error)
{
    wigwag_publisher *publisher, *no_publisher = NULL;
    wigwag_subscriber *subscriber, *no_subscriber = NULL;
    wigwag_sample *sample, *other;
    wigwag_listen_options listening = {0};
    wigwag_connect_options connecting = {0};
    wigwag_receipt receipt = {0};
    const void *bytes;
    void *data;
    size_t len;
    char byte;

    OK(wigwag_publisher_bind(name_of("mistakes"), unhurried(), &publisher, error));
    OK(wigwag_subscriber_connect(name_of("mistakes"), NULL, &subscriber, error));
    OK(wigwag_publisher_wait_for_subscribers(publisher, 1, LIMIT_NS, error));

    /* NULL, where something is needed. */
    IS(WIGWAG_ERR_NULL, wigwag_publisher_bind(NULL, NULL, &no_publisher, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_bind("x", NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_send(NULL, "x", 1, 0, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_send(publisher, NULL, 1, 0, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_loan(publisher, 1, 0, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_commit(NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_fd(NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_process(publisher, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_subscribers(publisher, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_subscribers(NULL, never, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_publisher_stop(publisher, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_connect("x", NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_recv(NULL, 0, &sample, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_recv(subscriber, 0, NULL, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_recv_copied(subscriber, 0, NULL, 1, &len, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_recv_copied(subscriber, 0, &byte, 1, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_process(subscriber, NULL, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_subscriber_peer(subscriber, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_sample_data(NULL, &bytes, &len, error));
    CHECK(wigwag_publisher_path(NULL) == NULL && wigwag_subscriber_lag(NULL) == 0);
    CHECK(wigwag_sample_sequence(NULL) == 0 && wigwag_sample_is_in_place(NULL) == 0);
    OK(wigwag_publisher_free(NULL));
    OK(wigwag_subscriber_free(NULL));
    OK(wigwag_sample_release(NULL));

    /* Handles of another form, options that say nothing that is possible. */
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_publisher_free((wigwag_publisher *)subscriber));
    wigwag_subscriber *wrong = (wigwag_subscriber *)publisher;
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_subscriber_recv(wrong, 0, &sample, NULL, NULL, error));
    CHECK(strstr(wigwag_error_text(error), "Publis") != NULL);
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_sample_release((wigwag_sample *)subscriber));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.overrun = 9;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    listening.overrun = WIGWAG_OVERRUN_DROP_OLDEST;
    listening.patience_ns = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    listening.patience_ns = 0;
    listening.max_holds = 1;
    listening.has_no_holds = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    listening.has_no_holds = 0;
    listening.retain = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    CHECK(strstr(wigwag_error_text(error), "retains_less") != NULL);
    listening.retains_less = 1;
    IS(WIGWAG_ERR_INVALID_CONFIGURATION, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_listen_options.overrun") != NULL);
    listening.retains_less = 0;
    listening.retain = 0;
    listening.history = 1 << 20;
    IS(WIGWAG_ERR_INVALID_CONFIGURATION, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_listen_options.history") != NULL);
    connecting.size = sizeof connecting;
    connecting.start = 9;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_subscriber_connect(name_of("mistakes"), &connecting, &no_subscriber, error));
    IS(WIGWAG_ERR_NOT_RUNNING, wigwag_subscriber_connect(name_of("nobody"), NULL, &no_subscriber, error));
    listening.history = 0;
    listening.first_number = UINT64_MAX;
    IS(WIGWAG_ERR_INVALID_CONFIGURATION, wigwag_publisher_bind(name_of("none"), &listening, &no_publisher, error));
    CHECK(no_publisher == NULL && no_subscriber == NULL);

    /* One that publishes again what another has published begins with that one's number. */
    uint64_t number;
    listening.first_number = 500;
    OK(wigwag_publisher_bind(name_of("again"), &listening, &no_publisher, error));
    OK(wigwag_publisher_send(no_publisher, "x", 1, 0, &number, error));
    CHECK(number == 500);
    OK(wigwag_publisher_free(no_publisher));

    /* What is wrong with the place of a receipt is told before a message is taken. */
    char page[4096];
    memset(page, 7, sizeof page);
    OK(wigwag_publisher_send(publisher, page, sizeof page, 0, NULL, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_subscriber_recv_copied(subscriber, 0, page, 4096, &len, &receipt, error));
    OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &sample, &bytes, &len, error));
    CHECK(len == 4096);

    /* A child has nothing of its parent's, and may free it. */
    OK(wigwag_publisher_loan(publisher, 1, 0, &data, error));
    pid_t child = fork();
    if (child == 0) {
        int is_right = wigwag_subscriber_recv(subscriber, 0, &other, NULL, NULL, error) == WIGWAG_ERR_FORKED &&
                       wigwag_subscriber_process(subscriber, &other, NULL, NULL, error) == WIGWAG_ERR_FORKED &&
                       wigwag_publisher_commit(publisher, NULL, error) == WIGWAG_ERR_FORKED &&
                       wigwag_publisher_send(publisher, "x", 1, 0, NULL, error) == WIGWAG_ERR_FORKED &&
                       wigwag_publisher_process(publisher, &(int){0}, NULL, error) == WIGWAG_ERR_FORKED &&
                       wigwag_sample_release(sample) == WIGWAG_OK && wigwag_subscriber_free(subscriber) == WIGWAG_OK &&
                       wigwag_publisher_free(publisher) == WIGWAG_OK;
        execlp(is_right ? "true" : "false", "child", (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    *(char *)data = 'y';
    OK(wigwag_publisher_commit(publisher, NULL, error));
    OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &other, &bytes, &len, error));
    CHECK(len == 1 && *(const char *)bytes == 'y');
    OK(wigwag_sample_release(other));
    OK(wigwag_sample_data(sample, &bytes, &len, error));
    CHECK(((const char *)bytes)[4095] == 7);
    OK(wigwag_sample_release(sample));

    /* As others see it: not where the memory of other programs may not be looked at. */
    wigwag_service service = {0};
    service.size = sizeof service;
    if (wigwag_inspect(name_of("mistakes"), &service, error) == WIGWAG_OK)
        CHECK(service.form == WIGWAG_FORM_BROADCAST && service.calls == 2 && service.sessions == 1);
    wigwag_service found = {0};
    OK(wigwag_list(find, &found, error));
    CHECK(found.size == 0 || found.form == WIGWAG_FORM_BROADCAST);
    OK(wigwag_subscriber_free(subscriber));
    OK(wigwag_publisher_free(publisher));
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: broadcast DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    wigwag_error *error = wigwag_error_new();
    CHECK(strcmp(wigwag_code_name(WIGWAG_ERR_ENDED), "WIGWAG_ERR_ENDED") == 0);
    messages(error);
    begin_and_go_on(error);
    patience(error);
    loops(error);
    threads(error);
    mistakes(error);
    OK(wigwag_error_free(error));
    puts("all of a broadcast");
    return 0;
}
