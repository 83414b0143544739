/*
 * Deaths, as C sees them: `deaths DIRECTORY KILLS`. Either side is killed while the other one waits, by itself or in an
 * event loop. It prints how long it took to notice, and beside it how long the kernel took to tell of the death at all:
 * the goal (G10) is a median within 200 us, or within 100 us of the kernel's.
 */
#define _GNU_SOURCE

#include "check.h"

#include <sys/prctl.h>

static const char *directory;
static char *program;
static char room[512];

/* A child that plays a part and is killed by its parent. It says a byte when it has come so far. */
struct child {
    pid_t pid;
    int said;
};

static struct child start(wigwag_error *error, const char *part, const char *name)
{
    struct child child;
    int ends[2];
    CHECK(pipe(ends) == 0);
    child.pid = fork();
    CHECK(child.pid >= 0);
    if (child.pid == 0) {
        char said[16];
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody who keeps its output open */
        snprintf(said, sizeof said, "%d", ends[1]);
        close(ends[0]);
        execl(program, program, directory, part, name, said, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    child.said = ends[0];
    return child;
}

static void hear(wigwag_error *error, const struct child *child)
{
    char byte;
    CHECK(is_readable(child->said, LIMIT_MS) && read(child->said, &byte, 1) == 1);
}

static void bury(wigwag_error *error, struct child *child)
{
    CHECK(waitpid(child->pid, NULL, 0) == child->pid);
    close(child->said);
}

/* A subscriber that may hold two messages: what one that was killed held is given back once the publisher looks. */
static wigwag_subscriber *connect_to_hold(wigwag_error *error, const char *path)
{
    for (int64_t until = now_ns() + LIMIT_NS;; pause_ms(1)) {
        wigwag_subscriber *subscriber;
        wigwag_subscriber_stats stats = {0};
        stats.size = sizeof stats;
        OK(wigwag_subscriber_connect(path, NULL, &subscriber, error));
        OK(wigwag_subscriber_statistics(subscriber, &stats, error));
        if (stats.may_hold == 2)
            return subscriber;
        OK(wigwag_subscriber_free(subscriber));
        CHECK(now_ns() < until);
    }
}

static int play(wigwag_error *error, const char *part, const char *name, int said)
{
    const char *path = path_of(room, sizeof room, directory, name);
    if (strcmp(part, "server") == 0) {
        wigwag_server *server;
        wigwag_request *request;
        OK(wigwag_server_bind(path, unhurried(), &server, error));
        CHECK(write(said, "b", 1) == 1);
        OK(wigwag_server_recv(server, WIGWAG_FOREVER, &request, error));
        CHECK(write(said, "r", 1) == 1);
    } else if (strcmp(part, "client") == 0) {
        wigwag_client *client;
        wigwag_reply *reply;
        OK(wigwag_client_connect(path, NULL, &client, error));
        CHECK(write(said, "c", 1) == 1);
        wigwag_client_call(client, "x", 1, WIGWAG_FOREVER, &reply, NULL, NULL, error);
    } else if (strcmp(part, "receiver") == 0) {
        wigwag_receiver *receiver;
        wigwag_message *message;
        OK(wigwag_receiver_bind(path, unhurried(), &receiver, error));
        CHECK(write(said, "b", 1) == 1);
        OK(wigwag_receiver_recv(receiver, WIGWAG_FOREVER, &message, NULL, NULL, error));
        CHECK(write(said, "r", 1) == 1);
    } else if (strcmp(part, "worker") == 0) {
        /* Says of each message what is in it, and whether it is marked; has the first one in hand for ever. */
        wigwag_receiver *receiver;
        wigwag_message *message;
        const void *bytes;
        char told[2] = "b";
        wigwag_listen_options options = *unhurried();
        options.shared = 1;
        OK(wigwag_receiver_bind(path, &options, &receiver, error));
        CHECK(write(said, told, 1) == 1);
        do {
            OK(wigwag_receiver_recv(receiver, WIGWAG_FOREVER, &message, &bytes, NULL, error));
            told[0] = *(const char *)bytes;
            told[1] = wigwag_message_is_redelivered(message) ? 'm' : 'n';
            if (memcmp(told, "1n", 2) != 0)
                OK(wigwag_message_ack(message));
            CHECK(write(said, told, 2) == 2);
        } while (memcmp(told, "1n", 2) != 0);
    } else if (strcmp(part, "kept receiver") == 0) {
        wigwag_receiver *receiver;
        wigwag_message *message;
        wigwag_listen_options options = *unhurried();
        options.kept_by = path;
        OK(wigwag_receiver_bind(path, &options, &receiver, error));
        CHECK(write(said, "b", 1) == 1);
        OK(wigwag_receiver_recv(receiver, WIGWAG_FOREVER, &message, NULL, NULL, error));
        CHECK(write(said, "r", 1) == 1);
    } else if (strcmp(part, "sender") == 0) {
        wigwag_sender *sender;
        OK(wigwag_sender_connect(path, NULL, &sender, error));
        for (const char *message = "123"; *message != '\0'; message++)
            OK(wigwag_sender_send(sender, message, 1, WIGWAG_FOREVER, error));
        CHECK(write(said, "s", 1) == 1);
    } else if (strcmp(part, "publisher") == 0) {
        wigwag_publisher *publisher;
        OK(wigwag_publisher_bind(path, unhurried(), &publisher, error));
        CHECK(write(said, "b", 1) == 1);
        OK(wigwag_publisher_wait_for_subscribers(publisher, 1, WIGWAG_FOREVER, error));
        for (int at = 0; at < 2; at++) {
            void *data;
            OK(wigwag_publisher_loan(publisher, 1000, 0, &data, error));
            memset(data, at, 1000);
            OK(wigwag_publisher_commit(publisher, NULL, error));
        }
        CHECK(write(said, "p", 1) == 1);
    } else if (strcmp(part, "subscriber") == 0) {
        wigwag_subscriber *subscriber = connect_to_hold(error, path);
        wigwag_sample *sample;
        for (int held = 0; held < 2;) {
            OK(wigwag_subscriber_recv(subscriber, WIGWAG_FOREVER, &sample, NULL, NULL, error));
            if (wigwag_sample_is_in_place(sample))
                held++;
            else
                OK(wigwag_sample_release(sample)); /* the publisher did not count on it yet */
        }
        CHECK(write(said, "h", 1) == 1);
    } else {
        wigwag_semaphore *semaphore;
        wigwag_permit *permit;
        OK(wigwag_semaphore_open(path, 1, 0, &semaphore, error));
        OK(wigwag_semaphore_acquire(semaphore, 1, WIGWAG_FOREVER, &permit, error));
        CHECK(write(said, "h", 1) == 1);
    }
    for (;;)
        pause();
}

static int by_time(const void *left, const void *right)
{
    int64_t l = *(const int64_t *)left, r = *(const int64_t *)right;
    return (l > r) - (l < r);
}

static void tell(const char *what, int64_t *times, size_t count)
{
    qsort(times, count, sizeof *times, by_time);
    printf("%s: %zu kills, p50 %lld us, longest %lld us\n", what, count, (long long)times[count / 2] / 1000,
           (long long)times[count - 1] / 1000);
}

/* How long the kernel takes to tell of a death by the hang-up of a pipe: the measure beside. */
static void kernel(wigwag_error *error, int64_t *times, size_t kills)
{
    for (size_t kill_ = 0; kill_ < kills; kill_++) {
        struct child child = start(error, "server", "kernel");
        hear(error, &child);
        struct pollfd polled = {child.said, 0, 0};
        int64_t begin = now_ns();
        CHECK(kill(child.pid, SIGKILL) == 0 && poll(&polled, 1, LIMIT_MS) == 1);
        times[kill_] = now_ns() - begin;
        bury(error, &child);
    }
    tell("the kernel", times, kills);
}

/* The server is killed while the client waits: in a call, or in a loop. */
static void servers(wigwag_error *error, int64_t *times, size_t kills, int in_a_loop)
{
    for (size_t kill_ = 0; kill_ < kills; kill_++) {
        wigwag_client *client;
        wigwag_loan *loan;
        wigwag_pending *pending, *ready;
        wigwag_reply *reply;
        void *data;
        struct child child = start(error, "server", "server");
        hear(error, &child);
        OK(wigwag_client_connect(path_of(room, sizeof room, directory, "server"), NULL, &client, error));
        int fd = in_a_loop ? wigwag_client_fd(client, error) : -1;
        OK(wigwag_client_loan(client, 8, 0, &loan, &data, error));
        OK(wigwag_loan_send(loan, &pending, error));
        if (in_a_loop) {
            OK(wigwag_client_process(client, &ready, error));
            CHECK(ready == NULL);
        }
        hear(error, &child);
        int64_t begin = now_ns();
        CHECK(kill(child.pid, SIGKILL) == 0);
        if (in_a_loop) {
            do
                CHECK(is_readable(fd, LIMIT_MS));
            while (wigwag_client_process(client, &ready, error) == WIGWAG_OK && ready == NULL);
            CHECK(ready == pending);
        }
        IS(WIGWAG_ERR_PEER_DIED, wigwag_pending_wait(pending, LIMIT_NS, &reply, NULL, NULL, error));
        times[kill_] = now_ns() - begin;
        CHECK(wigwag_error_maybe_executed(error) == 1);
        IS(WIGWAG_ERR_PEER_DIED, wigwag_client_loan(client, 8, 0, &loan, &data, error));
        CHECK(wigwag_error_maybe_executed(error) == 0);
        OK(wigwag_client_free(client));
        bury(error, &child);
    }
    tell(in_a_loop ? "a server, noticed by a loop" : "a server, noticed by a call", times, kills);
}

/* The client is killed while the server works on its request. */
static void clients(wigwag_error *error, int64_t *times, size_t kills)
{
    wigwag_server *server;
    wigwag_request *request;
    OK(wigwag_server_bind(path_of(room, sizeof room, directory, "clients"), unhurried(), &server, error));
    for (size_t kill_ = 0; kill_ < kills; kill_++) {
        struct child child = start(error, "client", "clients");
        hear(error, &child);
        OK(wigwag_server_recv(server, LIMIT_NS, &request, error));
        int64_t begin = now_ns();
        CHECK(kill(child.pid, SIGKILL) == 0);
        OK(wigwag_request_wait_abandoned(request, LIMIT_NS, error));
        times[kill_] = now_ns() - begin;
        OK(wigwag_request_reply(request, error)); /* which reaches nobody, and harms nobody */
        bury(error, &child);
    }
    OK(wigwag_server_free(server));
    tell("a client", times, kills);
}

/* A receiver is killed with a message in hand: its successor gets it, marked. */
static void receivers(wigwag_error *error)
{
    wigwag_sender *sender;
    wigwag_receiver *receiver;
    wigwag_message *message;
    const void *bytes;
    size_t len;
    struct child child = start(error, "receiver", "queue");
    hear(error, &child);
    const char *path = path_of(room, sizeof room, directory, "queue");
    OK(wigwag_sender_connect(path, NULL, &sender, error));
    OK(wigwag_sender_send(sender, "one", 3, 0, error));
    hear(error, &child);
    OK(wigwag_sender_send(sender, "two", 3, 0, error));
    CHECK(kill(child.pid, SIGKILL) == 0);
    bury(error, &child);
    OK(wigwag_receiver_bind(path, unhurried(), &receiver, error));
    OK(wigwag_sender_send(sender, "three", 5, LIMIT_NS, error));
    static const char *const expected[] = {"one", "two", "three"};
    for (int at = 0; at < 3; at++) {
        int64_t until = now_ns() + LIMIT_NS;
        do
            wigwag_sender_flush(sender, 10 * 1000 * 1000, error);
        while (wigwag_receiver_recv(receiver, 10 * 1000 * 1000, &message, &bytes, &len, error) != WIGWAG_OK &&
               now_ns() < until);
        CHECK(now_ns() < until);
        CHECK(len == strlen(expected[at]) && memcmp(bytes, expected[at], len) == 0);
        CHECK(wigwag_message_is_redelivered(message) == (at == 0));
        OK(wigwag_message_ack(message));
    }
    OK(wigwag_sender_close(sender, error));
    OK(wigwag_receiver_free(receiver));
    puts("a receiver: nothing lost, one marked");
}

/* One of two workers of a queue is killed with a message in hand: the other one gets it, marked. */
static void workers(wigwag_error *error)
{
    struct child children[2];
    wigwag_sender *sender;
    char told[2];

    for (int at = 0; at < 2; at++) {
        children[at] = start(error, "worker", "workers");
        hear(error, &children[at]);
    }
    OK(wigwag_sender_connect(path_of(room, sizeof room, directory, "workers"), NULL, &sender, error));
    OK(wigwag_sender_send(sender, "1", 1, LIMIT_NS, error));
    struct pollfd polled[2] = {{children[0].said, POLLIN, 0}, {children[1].said, POLLIN, 0}};
    CHECK(poll(polled, 2, LIMIT_MS) == 1);
    int busy = polled[0].revents != 0 ? 0 : 1, other = 1 - busy;
    CHECK(read(children[busy].said, told, 2) == 2 && memcmp(told, "1n", 2) == 0);
    OK(wigwag_sender_send(sender, "2", 1, LIMIT_NS, error)); /* goes to the one that has nothing in hand */
    CHECK(is_readable(children[other].said, LIMIT_MS));
    CHECK(read(children[other].said, told, 2) == 2 && memcmp(told, "2n", 2) == 0);
    CHECK(kill(children[busy].pid, SIGKILL) == 0);
    bury(error, &children[busy]);
    CHECK(is_readable(children[other].said, LIMIT_MS)); /* without a call of this process: a thread does it */
    CHECK(read(children[other].said, told, 2) == 2 && memcmp(told, "1m", 2) == 0);
    OK(wigwag_sender_flush(sender, LIMIT_NS, error));
    OK(wigwag_sender_close(sender, error));
    CHECK(kill(children[other].pid, SIGKILL) == 0);
    bury(error, &children[other]);
    puts("a worker: the other one got what it had, marked");
}

/* Sender and receiver are killed, one after the other: the keeper, here, has what was not acknowledged. */
static void kept(wigwag_error *error)
{
    wigwag_keeper *keeper;
    wigwag_receiver *receiver;
    wigwag_message *message;
    const void *bytes;
    size_t len;
    char path[512];

    path_of(path, sizeof path, directory, "kept");
    OK(wigwag_keeper_start(path, NULL, &keeper, error));
    struct child first = start(error, "kept receiver", "kept");
    hear(error, &first);
    struct child sender = start(error, "sender", "kept");
    hear(error, &sender);
    hear(error, &first); /* it has the first message in hand */
    CHECK(kill(sender.pid, SIGKILL) == 0);
    bury(error, &sender);
    CHECK(kill(first.pid, SIGKILL) == 0);
    bury(error, &first);
    wigwag_listen_options options = *unhurried();
    options.kept_by = path;
    OK(wigwag_receiver_bind(path, &options, &receiver, error));
    for (int at = 0; at < 3; at++) {
        OK(wigwag_receiver_recv(receiver, LIMIT_NS, &message, &bytes, &len, error));
        CHECK(len == 1 && *(const char *)bytes == '1' + at);
        CHECK(wigwag_message_is_redelivered(message) == (at == 0));
        OK(wigwag_message_ack(message));
    }
    wigwag_keeper_stats stats = {0};
    stats.size = sizeof stats;
    for (int64_t until = now_ns() + LIMIT_NS; stats.handed_on != 3; pause_ms(1)) {
        OK(wigwag_keeper_statistics(keeper, &stats, error));
        CHECK(now_ns() < until);
    }
    CHECK(stats.redelivered == 1 && stats.left == 0 && stats.kept == 1 && stats.unreadable == 0);
    OK(wigwag_receiver_free(receiver));
    OK(wigwag_keeper_free(keeper));
    puts("both sides of a queue: nothing lost, one marked");
}

/* The publisher is killed while a subscriber waits: all that was published is read, and stays what it is in hand. */
static void publishers(wigwag_error *error, int64_t *times, size_t kills, int in_a_loop)
{
    for (size_t kill_ = 0; kill_ < kills; kill_++) {
        wigwag_subscriber *subscriber;
        wigwag_sample *samples[2], *none;
        const unsigned char *bytes;
        size_t len;
        int code;
        struct child child = start(error, "publisher", "publisher");
        hear(error, &child);
        OK(wigwag_subscriber_connect(path_of(room, sizeof room, directory, "publisher"), NULL, &subscriber, error));
        int fd = wigwag_subscriber_fd(subscriber, error);
        hear(error, &child);
        for (int at = 0; at < 2; at++)
            OK(wigwag_subscriber_recv(subscriber, LIMIT_NS, &samples[at], NULL, NULL, error));
        if (in_a_loop) {
            OK(wigwag_subscriber_process(subscriber, &none, NULL, NULL, error));
            CHECK(none == NULL);
        }
        int64_t begin = now_ns();
        CHECK(kill(child.pid, SIGKILL) == 0);
        if (in_a_loop) {
            do
                CHECK(is_readable(fd, LIMIT_MS));
            while ((code = wigwag_subscriber_process(subscriber, &none, NULL, NULL, error)) == WIGWAG_OK);
            IS(WIGWAG_ERR_PEER_DIED, code);
        }
        IS(WIGWAG_ERR_PEER_DIED, wigwag_subscriber_recv(subscriber, LIMIT_NS, &none, NULL, NULL, error));
        times[kill_] = now_ns() - begin;
        OK(wigwag_subscriber_free(subscriber));
        bury(error, &child);
        for (int at = 0; at < 2; at++) {
            OK(wigwag_sample_data(samples[at], (const void **)&bytes, &len, error));
            CHECK(len == 1000 && bytes[0] == at && bytes[999] == at);
            OK(wigwag_sample_release(samples[at]));
        }
    }
    tell(in_a_loop ? "a publisher, noticed by a loop" : "a publisher, noticed by a subscriber", times, kills);
}

/* A subscriber is killed that holds all that it may, while a patient publisher waits for it: there is room again, and
 * whoever comes next may hold as much. */
static void subscribers(wigwag_error *error, int64_t *times, size_t kills)
{
    wigwag_publisher *publisher;
    wigwag_listen_options listening = {0};
    static const char message[1000];
    int code;

    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.history = 1;
    listening.slots = 2;
    listening.max_holds = 2;
    listening.overrun = WIGWAG_OVERRUN_WAIT;
    listening.patience_ns = LIMIT_NS;
    OK(wigwag_publisher_bind(path_of(room, sizeof room, directory, "subscribers"), &listening, &publisher, error));
    for (size_t kill_ = 0; kill_ < kills; kill_++) {
        struct child child = start(error, "subscriber", "subscribers");
        do { /* until it holds two, and reads no more */
            code = wigwag_publisher_send(publisher, message, sizeof message, 0, NULL, error);
            CHECK(code == WIGWAG_OK || code == WIGWAG_ERR_FULL);
        } while (!is_readable(child.said, 1));
        hear(error, &child);
        do
            code = wigwag_publisher_send(publisher, message, sizeof message, 0, NULL, error);
        while (code == WIGWAG_OK);
        IS(WIGWAG_ERR_FULL, code);
        int64_t begin = now_ns();
        CHECK(kill(child.pid, SIGKILL) == 0);
        OK(wigwag_publisher_send(publisher, message, sizeof message, WIGWAG_FOREVER, NULL, error));
        times[kill_] = now_ns() - begin;
        bury(error, &child);
    }
    wigwag_publisher_stats stats = {0};
    stats.size = sizeof stats;
    OK(wigwag_publisher_statistics(publisher, &stats, error));
    CHECK(stats.subscribers == 0 && stats.cut_off == 0);
    OK(wigwag_publisher_free(publisher));
    tell("a subscriber, noticed by a publisher that waits for it", times, kills);
}

/* A holder is killed: its permit comes back, and whoever gets it is told. */
static void holders(wigwag_error *error)
{
    wigwag_semaphore *semaphore;
    wigwag_permit *permit;
    struct child child = start(error, "holder", "permit");
    hear(error, &child);
    OK(wigwag_semaphore_open(path_of(room, sizeof room, directory, "permit"), 1, 0, &semaphore, error));
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_semaphore_acquire(semaphore, 1, 0, &permit, error));
    CHECK(kill(child.pid, SIGKILL) == 0);
    OK(wigwag_semaphore_acquire(semaphore, 1, LIMIT_NS, &permit, error));
    CHECK(wigwag_permit_recovered(permit) == 1);
    OK(wigwag_permit_release(permit));
    OK(wigwag_semaphore_free(semaphore));
    bury(error, &child);
    puts("a holder: its permit came back, marked");
}

int main(int argc, char **argv)
{
    wigwag_error *error = wigwag_error_new();
    program = argv[0];
    if (argc == 5) {
        directory = argv[1];
        return play(error, argv[2], argv[3], (int)strtol(argv[4], NULL, 10));
    }
    if (argc != 3) {
        fprintf(stderr, "usage: deaths DIRECTORY KILLS\n");
        return 2;
    }
    directory = argv[1];
    size_t kills = strtoul(argv[2], NULL, 10);
    int64_t *times = calloc(kills, sizeof *times);
    CHECK(times != NULL && kills > 0);
    kernel(error, times, kills);
    servers(error, times, kills, 0);
    servers(error, times, kills, 1);
    clients(error, times, kills);
    publishers(error, times, kills, 0);
    publishers(error, times, kills, 1);
    subscribers(error, times, kills);
    receivers(error);
    workers(error);
    kept(error);
    holders(error);
    free(times);
    OK(wigwag_error_free(error));
    return 0;
}
