/* Every form and every function of the header, with both sides in this process: `forms DIRECTORY`. */
#define _GNU_SOURCE

#include "check.h"

#include <fcntl.h>
#include <pthread.h>

static const char *directory;
static char rooms[16][512];
static int can_observe;

static const char *name_of(const char *name)
{
    static int next;
    next = (next + 1) % 16;
    return path_of(rooms[next], sizeof rooms[next], directory, name);
}

/* ---- the exchange ---------------------------------------------------------------------------------------------- */

/* Inverts each byte; fails if the first one is '!', with a text if there is a second one. */
static int invert(wigwag_request *request, void *user)
{
    unsigned char *bytes;
    size_t len;
    if (wigwag_request_data(request, (void **)&bytes, &len, NULL) != WIGWAG_OK)
        return -1;
    if (user != NULL)
        __atomic_add_fetch((int *)user, 1, __ATOMIC_RELAXED);
    if (len > 0 && bytes[0] == '!') {
        if (len > 1)
            wigwag_request_fail(request, "not today", NULL);
        return 7;
    }
    if (len == 3 && memcmp(bytes, "own", 3) == 0)
        return wigwag_request_reply(request, NULL) == WIGWAG_ERR_INVALID_ARGUMENT
                   ? wigwag_request_set_reply(request, "mine", 4, NULL)
                   : -1;
    for (size_t at = 0; at < len; at++)
        bytes[at] = (unsigned char)~bytes[at];
    return 0;
}

struct served {
    wigwag_server *server;
    int calls;
    size_t threads;
    int result;
};

static void *serve(void *argument)
{
    struct served *served = argument;
    served->result = served->threads == 1
                         ? wigwag_server_serve(served->server, invert, &served->calls, NULL)
                         : wigwag_server_serve_on(served->server, served->threads, invert, &served->calls, NULL);
    return NULL;
}

static void exchange(wigwag_error *error, size_t threads)
{
    struct served served = {NULL, 0, threads, 1};
    wigwag_stop *stop;
    wigwag_client *client, *other;
    wigwag_loan *loan;
    wigwag_pending *pending;
    wigwag_reply *reply;
    unsigned char *bytes;
    void *data;
    size_t len;
    pthread_t thread;

    OK(wigwag_server_bind(name_of("exchange"), unhurried(), &served.server, error));
    CHECK(strcmp(wigwag_server_path(served.server), name_of("exchange")) == 0);
    IS(WIGWAG_ERR_NAME_TAKEN, wigwag_server_bind(name_of("exchange"), NULL, &served.server, error));
    CHECK(strstr(wigwag_error_text(error), "exchange") != NULL);
    OK(wigwag_server_stop(served.server, &stop, error));
    CHECK(pthread_create(&thread, NULL, serve, &served) == 0);

    wigwag_connect_options options = {0};
    options.size = sizeof options;
    options.slots = 4;
    options.capacity = 8192;
    options.wait = WIGWAG_WAIT_PARK;
    options.timeout_ns = LIMIT_NS;
    OK(wigwag_client_connect(name_of("exchange"), &options, &client, error));
    CHECK(wigwag_client_slots(client) == 4 && wigwag_client_capacity(client) == 8192);

    /* In place: small and large, in a loop, and a reply that becomes the next request. */
    static const size_t sizes[] = {0, 1, 47, 48, 49, 4096, 8192};
    for (size_t round = 0; round < 100; round++) {
        size_t size = sizes[round % 7];
        OK(wigwag_client_loan(client, size, WIGWAG_FOREVER, &loan, &data, error));
        CHECK((uintptr_t)data % 16 == 0);
        memset(data, (int)(round & 0x1f), size);
        OK(wigwag_loan_call(loan, round % 2 ? WIGWAG_FOREVER : LIMIT_NS, &reply, &data, &len, error));
        CHECK(len == size);
        bytes = data;
        for (size_t at = 0; at < len; at++)
            CHECK(bytes[at] == (unsigned char)~(round & 0x1f));
        if (round % 3 == 0) {
            OK(wigwag_reply_into_loan(reply, len, &loan, &data, error));
            OK(wigwag_loan_call(loan, WIGWAG_FOREVER, &reply, &data, &len, error));
            CHECK(len == size && (len == 0 || *(unsigned char *)data == (round & 0x1f)));
        }
        OK(wigwag_reply_release(reply));
    }
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_client_loan(client, 8193, 0, &loan, &data, error));

    /* The short form; a handler that fails, with and without a text; one that answers with other bytes. */
    OK(wigwag_client_call(client, "abc", 3, LIMIT_NS, &reply, &data, &len, error));
    CHECK(len == 3 && *(unsigned char *)data == (unsigned char)~'a');
    OK(wigwag_reply_release(reply));
    IS(WIGWAG_ERR_HANDLER_FAILED, wigwag_client_call(client, "!", 1, LIMIT_NS, &reply, &data, &len, error));
    CHECK(strstr(wigwag_error_text(error), "returned 7") != NULL && wigwag_error_maybe_executed(error) == 1);
    IS(WIGWAG_ERR_HANDLER_FAILED, wigwag_client_call(client, "!!", 2, WIGWAG_FOREVER, &reply, NULL, NULL, error));
    CHECK(strstr(wigwag_error_text(error), "not today") != NULL);
    OK(wigwag_client_call(client, "own", 3, WIGWAG_FOREVER, &reply, &data, &len, error));
    CHECK(len == 4 && memcmp(data, "mine", 4) == 0);
    OK(wigwag_reply_release(reply));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_call(client, "abc", 3, 0, &reply, NULL, NULL, error));

    /* Copied there and back, from and to the same bytes; into too little room. */
    char copied[4] = "abc";
    OK(wigwag_client_call_copied(client, copied, 3, WIGWAG_FOREVER, copied, sizeof copied, &len, error));
    CHECK(len == 3 && copied[0] == (char)~'a' && copied[3] == '\0');
    OK(wigwag_client_call_copied(client, copied, 3, LIMIT_NS, copied, 3, &len, error));
    CHECK(len == 3 && memcmp(copied, "abc", 3) == 0);
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_client_call_copied(client, copied, 3, LIMIT_NS, copied, 2, &len, error));
    CHECK(len == 3 && wigwag_error_maybe_executed(error) == 1 && memcmp(copied, "abc", 3) == 0);
    IS(WIGWAG_ERR_CAPACITY_EXCEEDED, wigwag_client_call_copied(client, copied, 3, -1, NULL, 0, &len, error));
    IS(WIGWAG_ERR_NULL, wigwag_client_call_copied(client, copied, 3, WIGWAG_FOREVER, NULL, 3, &len, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_call_copied(client, copied, 3, 0, copied, 3, &len, error));

    /* All slots out; one given back, one abandoned. */
    wigwag_loan *held[4];
    for (int at = 0; at < 4; at++)
        OK(wigwag_client_loan(client, 8, 0, &held[at], &data, error));
    IS(WIGWAG_ERR_FULL, wigwag_client_loan(client, 8, 0, &loan, &data, error));
    OK(wigwag_loan_release(held[0]));
    OK(wigwag_client_loan(client, 8, 0, &held[0], &data, error));
    OK(wigwag_loan_send(held[0], &pending, error));
    OK(wigwag_pending_abandon(pending));
    for (int at = 1; at < 4; at++)
        OK(wigwag_loan_release(held[at]));
    OK(wigwag_client_loan(client, 8, LIMIT_NS, &loan, &data, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_loan_call(loan, 0, &reply, NULL, NULL, error)); /* and is a loan still */
    OK(wigwag_loan_release(loan));

    /* Sent now, waited for later. */
    OK(wigwag_client_loan(client, 5, WIGWAG_FOREVER, &loan, &data, error));
    memcpy(data, "later", 5);
    OK(wigwag_loan_send(loan, &pending, error));
    OK(wigwag_pending_wait(pending, WIGWAG_FOREVER, &reply, &data, &len, error));
    CHECK(len == 5 && *(unsigned char *)data == (unsigned char)~'l');

    /* What is freed while something of it is out lives until that is released. */
    OK(wigwag_client_clone(client, &other, error));
    OK(wigwag_client_free(client));
    CHECK(*(unsigned char *)data == (unsigned char)~'l');
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_client_loan(client, 8, 0, &loan, &data, error));
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_client_free(client));
    OK(wigwag_reply_release(reply));

    wigwag_client_stats stats = {0};
    stats.size = sizeof stats;
    OK(wigwag_client_call(other, "x", 1, WIGWAG_FOREVER, &reply, NULL, NULL, error));
    OK(wigwag_reply_release(reply));
    OK(wigwag_client_statistics(other, &stats, error));
    CHECK(stats.size == sizeof stats && stats.calls == 1);

    wigwag_service service = {0};
    service.size = sizeof service;
    int code = wigwag_inspect(name_of("exchange"), &service, error);
    can_observe = !(code == WIGWAG_ERR_IO && strstr(wigwag_error_text(error), "os error 38") != NULL);
    if (can_observe) {
        OK(code);
        CHECK(service.form == WIGWAG_FORM_EXCHANGE && service.pid == (uint32_t)getpid() && service.is_running == 1);
        CHECK(service.has_name == 1 && service.sessions >= 1);
    } else
        puts("not tried: pidfd_open, which observing needs, is not there (valgrind before 3.21 has none)");

    OK(wigwag_stop_shutdown(stop));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(served.result == WIGWAG_OK && served.calls > 130);
    IS(WIGWAG_ERR_SERVER_CLOSED, wigwag_client_call(other, "x", 1, WIGWAG_FOREVER, &reply, NULL, NULL, error));
    CHECK(wigwag_error_maybe_executed(error) == 0);
    OK(wigwag_client_free(other));
    wigwag_server_stats counted = {0};
    counted.size = sizeof counted;
    OK(wigwag_server_statistics(served.server, &counted, error));
    CHECK(counted.calls == (uint64_t)served.calls && counted.failed == 2);
    OK(wigwag_server_free(served.server));
    OK(wigwag_stop_shutdown(stop)); /* which has nothing to end any more */
    OK(wigwag_stop_free(stop));
    IS(WIGWAG_ERR_NOT_RUNNING, wigwag_client_connect(name_of("exchange"), NULL, &other, error));
}

/* Both sides in one loop, by their descriptors; answered in another order than asked. */
static void loops(wigwag_error *error)
{
    wigwag_server *server;
    wigwag_client *client;
    wigwag_request *request, *held[4];
    wigwag_loan *loan;
    wigwag_pending *pending, *first = NULL;
    wigwag_reply *reply;
    wigwag_peer peer;
    void *data;
    size_t len;
    int numbers[4] = {0, 1, 2, 3}, answered = 0, count = 0;

    OK(wigwag_server_bind(name_of("loops"), unhurried(), &server, error));
    OK(wigwag_client_connect(name_of("loops"), NULL, &client, error));
    int server_fd = wigwag_server_fd(server, error), client_fd = wigwag_client_fd(client, error);
    CHECK(server_fd >= 0 && client_fd >= 0 && wigwag_client_fd(client, error) == client_fd);
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_server_recv(server, 0, &request, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_server_recv(server, 1000000, &request, error));
    for (int at = 0; at < 4; at++) {
        OK(wigwag_client_loan(client, sizeof at, 0, &loan, &data, error));
        memcpy(data, &at, sizeof at);
        OK(wigwag_loan_send(loan, &pending, error));
        OK(wigwag_pending_set_user(pending, &numbers[at]));
        if (at == 0)
            first = pending;
    }
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_pending_wait(first, 0, &reply, NULL, NULL, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_pending_wait(first, 1000000, &reply, NULL, NULL, error));
    OK(wigwag_client_process(client, &pending, error));
    CHECK(pending == NULL);
    while (count < 4) {
        OK(wigwag_server_process(server, &request, error));
        if (request == NULL)
            CHECK(is_readable(server_fd, LIMIT_MS));
        else {
            /* Of one client they come in the order of its slots. */
            OK(wigwag_request_data(request, &data, &len, error));
            held[*(int *)data] = request;
            count++;
        }
    }
    CHECK(!is_readable(client_fd, 0));
    OK(wigwag_request_peer(held[0], &peer, error));
    CHECK(peer.pid == getpid() && peer.uid == geteuid());
    CHECK(wigwag_request_capacity(held[0]) > 0 && wigwag_request_time_left_ns(held[0]) == WIGWAG_FOREVER);
    OK(wigwag_request_resize(held[0], 16, error));
    OK(wigwag_request_data(held[0], &data, &len, error));
    CHECK(len == 16);
    OK(wigwag_request_drop(held[3]));
    OK(wigwag_request_fail(held[2], "no", error));
    OK(wigwag_request_reply(held[1], error));
    OK(wigwag_request_reply(held[0], error));
    while (answered < 4) {
        OK(wigwag_client_process(client, &pending, error));
        if (pending == NULL) {
            CHECK(is_readable(client_fd, LIMIT_MS));
            continue;
        }
        int number = *(int *)wigwag_pending_user(pending);
        int expected = number == 3 ? WIGWAG_ERR_UNANSWERED : number == 2 ? WIGWAG_ERR_HANDLER_FAILED : WIGWAG_OK;
        IS(expected, wigwag_pending_wait(pending, 0, &reply, &data, &len, error));
        if (expected == WIGWAG_OK) {
            CHECK(len == (number == 0 ? 16 : sizeof number) && *(int *)data == number);
            OK(wigwag_reply_release(reply));
        }
        answered++;
    }

    /* A call that is given up: whoever works on it can notice. */
    OK(wigwag_client_loan(client, 1, 0, &loan, &data, error));
    OK(wigwag_loan_send(loan, &pending, error));
    OK(wigwag_server_recv(server, LIMIT_NS, &request, error));
    CHECK(wigwag_request_is_abandoned(request) == 0);
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_request_wait_abandoned(request, 1000000, error));
    OK(wigwag_pending_abandon(pending));
    OK(wigwag_request_wait_abandoned(request, LIMIT_NS, error));
    CHECK(wigwag_request_is_abandoned(request) == 1);
    OK(wigwag_request_drop(request));

    /* The server's end comes by the descriptor, too. */
    OK(wigwag_server_free(server));
    int code;
    while ((code = wigwag_client_process(client, &pending, error)) == WIGWAG_OK && pending == NULL)
        CHECK(is_readable(client_fd, LIMIT_MS));
    CHECK(code == WIGWAG_ERR_SERVER_CLOSED);
    CHECK(!is_readable(client_fd, 20));
    OK(wigwag_client_free(client));
}

static void descriptors(wigwag_error *error)
{
    wigwag_server *server;
    wigwag_client *client;
    wigwag_request *request;
    wigwag_loan *loan;
    wigwag_pending *pending;
    wigwag_reply *reply;
    void *data;
    int ends[2], fds[WIGWAG_DESCRIPTORS_MAX];
    size_t count;
    char byte = 0;

    wigwag_listen_options listening = {0};
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.descriptors = 1;
    wigwag_connect_options connecting = {0};
    connecting.size = sizeof connecting;
    connecting.descriptors = 1;
    OK(wigwag_server_bind(name_of("fds"), &listening, &server, error));
    OK(wigwag_client_connect(name_of("fds"), &connecting, &client, error));
    CHECK(pipe(ends) == 0);
    OK(wigwag_client_loan(client, 1, 0, &loan, &data, error));
    OK(wigwag_loan_attach(loan, ends[1], error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_loan_attach(loan, -1, error));
    OK(wigwag_loan_send(loan, &pending, error));
    OK(wigwag_server_recv(server, LIMIT_NS, &request, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_request_take_descriptors(request, fds, 3, &count, error));
    OK(wigwag_request_take_descriptors(request, fds, WIGWAG_DESCRIPTORS_MAX, &count, error));
    CHECK(count == 1 && write(fds[0], "x", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'x');
    OK(wigwag_request_attach(request, fds[0], error));
    CHECK(close(fds[0]) == 0 && close(ends[1]) == 0);
    OK(wigwag_request_reply(request, error));
    OK(wigwag_pending_wait(pending, LIMIT_NS, &reply, NULL, NULL, error));
    OK(wigwag_reply_take_descriptors(reply, fds, WIGWAG_DESCRIPTORS_MAX, &count, error));
    CHECK(count == 1 && write(fds[0], "y", 1) == 1 && read(ends[0], &byte, 1) == 1 && byte == 'y');
    CHECK(close(fds[0]) == 0 && close(ends[0]) == 0);
    OK(wigwag_reply_release(reply));
    OK(wigwag_client_free(client));
    OK(wigwag_server_free(server));
}

/* ---- the queue ------------------------------------------------------------------------------------------------- */

static void queue(wigwag_error *error)
{
    wigwag_receiver *receiver;
    wigwag_sender *sender, *other;
    wigwag_message *message, *batch[8];
    wigwag_stop *stop;
    const void *bytes;
    void *data;
    size_t len, count, unacknowledged;
    int has_room;

    wigwag_listen_options listening = {0};
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.slots = 4;
    OK(wigwag_receiver_bind(name_of("queue"), &listening, &receiver, error));
    CHECK(strcmp(wigwag_receiver_path(receiver), name_of("queue")) == 0);
    wigwag_client *client;
    IS(WIGWAG_ERR_CONTRACT_MISMATCH, wigwag_client_connect(name_of("queue"), NULL, &client, error));
    wigwag_connect_options connecting = {0};
    connecting.size = sizeof connecting;
    connecting.slots = 4;
    connecting.linger_ns = WIGWAG_NO_LINGER;
    OK(wigwag_sender_connect(name_of("queue"), &connecting, &sender, error));
    CHECK(wigwag_sender_slots(sender) == 4 && wigwag_sender_capacity(sender) == 65536);
    OK(wigwag_receiver_stop(receiver, &stop, error));
    int receiver_fd = wigwag_receiver_fd(receiver, error), sender_fd = wigwag_sender_fd(sender, error);
    CHECK(receiver_fd >= 0 && sender_fd >= 0);

    OK(wigwag_sender_send(sender, "first", 5, WIGWAG_FOREVER, error));
    OK(wigwag_sender_loan(sender, 1000, LIMIT_NS, &data, error));
    IS(WIGWAG_ERR_IN_USE, wigwag_sender_send(sender, "x", 1, 0, error));
    IS(WIGWAG_ERR_IN_USE, wigwag_sender_close(sender, error));
    memset(data, 7, 1000);
    OK(wigwag_sender_commit(sender, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_sender_commit(sender, error));
    OK(wigwag_sender_loan(sender, 8, 0, &data, error));
    OK(wigwag_sender_discard(sender));
    const wigwag_bytes two[2] = {{"3", 1}, {NULL, 0}};
    OK(wigwag_sender_send_batch(sender, two, 2, &count, error));
    CHECK(count == 2);
    IS(WIGWAG_ERR_FULL, wigwag_sender_send(sender, "x", 1, 0, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_sender_send(sender, "x", 1, 1000000, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_sender_flush(sender, 1000000, error));
    OK(wigwag_sender_process(sender, &has_room, &unacknowledged, error));
    CHECK(has_room == 0 && unacknowledged == 4 && !is_readable(sender_fd, 0));

    OK(wigwag_receiver_recv(receiver, LIMIT_NS, &message, &bytes, &len, error));
    CHECK(len == 5 && memcmp(bytes, "first", 5) == 0 && wigwag_message_is_redelivered(message) == 0);
    OK(wigwag_message_data(message, &bytes, &len, error));
    CHECK(len == 5);
    wigwag_peer peer;
    OK(wigwag_message_peer(message, &peer, error));
    CHECK(peer.pid == getpid());
    OK(wigwag_message_nack(message));
    OK(wigwag_receiver_recv(receiver, LIMIT_NS, &message, &bytes, &len, error));
    CHECK(len == 5 && memcmp(bytes, "first", 5) == 0 && wigwag_message_is_redelivered(message) == 1);
    OK(wigwag_message_ack(message));
    CHECK(is_readable(sender_fd, LIMIT_MS));
    OK(wigwag_sender_process(sender, &has_room, NULL, error));
    CHECK(has_room == 1);
    OK(wigwag_receiver_recv_batch(receiver, LIMIT_NS, batch, 8, &count, error));
    CHECK(count == 3);
    OK(wigwag_message_data(batch[0], &bytes, &len, error));
    CHECK(len == 1000 && ((const unsigned char *)bytes)[999] == 7);
    for (size_t at = 0; at < count; at++)
        OK(wigwag_message_ack(batch[at]));
    OK(wigwag_sender_flush(sender, LIMIT_NS, error));
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_receiver_recv(receiver, 0, &message, &bytes, &len, error));

    /* By the descriptors. */
    OK(wigwag_receiver_process(receiver, &message, &bytes, &len, error));
    CHECK(message == NULL && !is_readable(receiver_fd, 0));
    OK(wigwag_sender_send(sender, "loop", 4, 0, error));
    CHECK(is_readable(receiver_fd, LIMIT_MS));
    do
        OK(wigwag_receiver_process(receiver, &message, &bytes, &len, error));
    while (message == NULL);
    CHECK(len == 4 && memcmp(bytes, "loop", 4) == 0);
    OK(wigwag_message_ack(message));

    OK(wigwag_sender_clone(sender, &other, error));
    OK(wigwag_sender_close(other, error));
    wigwag_sender_stats sent = {0};
    sent.size = sizeof sent;
    OK(wigwag_sender_statistics(sender, &sent, error));
    CHECK(sent.sent == 5 && sent.refused == 2);
    wigwag_receiver_stats received = {0};
    received.size = sizeof received;
    OK(wigwag_receiver_statistics(receiver, &received, error));
    CHECK(received.received == 6 && received.redelivered == 1 && received.returned == 1);
    OK(wigwag_sender_loan(sender, 8, 0, &data, error));
    OK(wigwag_sender_free(sender)); /* with a message that was begun */
    OK(wigwag_stop_shutdown(stop));
    IS(WIGWAG_ERR_SERVER_CLOSED, wigwag_receiver_recv(receiver, LIMIT_NS, &message, &bytes, &len, error));
    OK(wigwag_stop_free(stop));
    OK(wigwag_receiver_free(receiver));
}

/* Two receivers that share a name take turns; see deaths.c for what becomes of it when one is killed. */
static void shared_queue(wigwag_error *error)
{
    wigwag_receiver *receivers[2], *third = NULL;
    wigwag_message *messages[2];
    wigwag_sender *sender;
    const char *path;

    wigwag_listen_options listening = {0};
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.shared = 1;
    for (int at = 0; at < 2; at++)
        OK(wigwag_receiver_bind(name_of("shared"), &listening, &receivers[at], error));
    path = wigwag_receiver_path(receivers[1]);
    CHECK(strncmp(path, name_of("shared"), strlen(name_of("shared"))) == 0 && path[strlen(name_of("shared"))] == '@');
    IS(WIGWAG_ERR_NAME_TAKEN, wigwag_receiver_bind(name_of("shared"), NULL, &third, error));
    listening.replace_ns = 1;
    IS(WIGWAG_ERR_INVALID_CONFIGURATION, wigwag_receiver_bind(name_of("shared"), &listening, &third, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_listen_options.replace_ns") != NULL);
    CHECK(third == NULL);

    OK(wigwag_sender_connect(name_of("shared"), NULL, &sender, error));
    OK(wigwag_sender_send(sender, "one", 3, LIMIT_NS, error));
    OK(wigwag_sender_send(sender, "two", 3, LIMIT_NS, error));
    for (int at = 0; at < 2; at++) /* each has one before any is acknowledged */
        OK(wigwag_receiver_recv(receivers[at], LIMIT_NS, &messages[at], NULL, NULL, error));
    for (int at = 0; at < 2; at++) {
        CHECK(wigwag_message_is_redelivered(messages[at]) == 0);
        OK(wigwag_message_ack(messages[at]));
    }
    OK(wigwag_sender_close(sender, error));
    for (int at = 0; at < 2; at++)
        OK(wigwag_receiver_free(receivers[at]));
}

/* A keeper, and a receiver that names it; see deaths.c for what it keeps. */
static void keepers(wigwag_error *error)
{
    wigwag_keeper *keeper, *second = NULL;
    wigwag_receiver *receiver = NULL;

    wigwag_listen_options listening = {0};
    listening.size = sizeof listening;
    listening.handshake_timeout_ns = LIMIT_NS;
    listening.kept_by = name_of("kept");
    IS(WIGWAG_ERR_NOT_RUNNING, wigwag_receiver_bind(name_of("kept"), &listening, &receiver, error));
    CHECK(receiver == NULL && strstr(wigwag_error_text(error), "wigwag queue keep") != NULL);
    listening.allow_unkept = 1;
    OK(wigwag_receiver_bind(name_of("kept"), &listening, &receiver, error));
    OK(wigwag_receiver_free(receiver));
    listening.allow_unkept = 0;

    wigwag_keeper_options keeping = {0};
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_keeper_start(name_of("kept"), &keeping, &keeper, error)); /* no size */
    keeping.size = sizeof keeping;
    keeping.max_sessions = 7;
    keeping.max_bytes = 1 << 30;
    OK(wigwag_keeper_start(name_of("kept"), &keeping, &keeper, error));
    CHECK(strstr(wigwag_keeper_path(keeper), "/kept.keeper") != NULL && wigwag_keeper_path(NULL) == NULL);
    IS(WIGWAG_ERR_NAME_TAKEN, wigwag_keeper_start(name_of("kept"), NULL, &second, error));
    CHECK(second == NULL);
    OK(wigwag_receiver_bind(name_of("kept"), &listening, &receiver, error));
    wigwag_keeper_stats stats = {0};
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_keeper_statistics(keeper, &stats, error));
    stats.size = sizeof stats;
    for (int64_t until = now_ns() + LIMIT_NS; stats.receivers != 1; pause_ms(1)) {
        OK(wigwag_keeper_statistics(keeper, &stats, error));
        CHECK(now_ns() < until);
    }
    CHECK(stats.max_sessions == 7 && stats.max_bytes == 1 << 30 && stats.sessions == 0 && stats.left == 0);
    OK(wigwag_receiver_free(receiver));
    OK(wigwag_keeper_free(keeper));
    OK(wigwag_keeper_free(NULL));
}

/* ---- the stream ------------------------------------------------------------------------------------------------ */

static void stream(wigwag_error *error)
{
    wigwag_listener *listener;
    wigwag_stream *near, *far;
    wigwag_stop *stop;
    const void *lent;
    void *data;
    char text[16];
    size_t len, got;

    OK(wigwag_listener_bind(name_of("stream"), unhurried(), &listener, error));
    CHECK(strcmp(wigwag_listener_path(listener), name_of("stream")) == 0);
    OK(wigwag_listener_stop(listener, &stop, error));
    OK(wigwag_listener_set_nonblocking(listener, 1, error));
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_listener_accept(listener, &far, error));
    OK(wigwag_stream_connect(name_of("stream"), NULL, &near, error));
    CHECK(is_readable(wigwag_listener_fd(listener, error), LIMIT_MS));
    OK(wigwag_listener_set_nonblocking(listener, 0, error));
    OK(wigwag_listener_accept(listener, &far, error));

    OK(wigwag_stream_write_all(near, "hello", 5, error));
    OK(wigwag_stream_read_exact(far, text, 5, error));
    CHECK(memcmp(text, "hello", 5) == 0);
    OK(wigwag_stream_reserve(near, &data, &len, error));
    CHECK(len >= 5);
    memcpy(data, "there", 5);
    OK(wigwag_stream_commit(near, 5, error));
    OK(wigwag_stream_peek(far, &lent, &len, error));
    CHECK(len == 5 && memcmp(lent, "there", 5) == 0);
    OK(wigwag_stream_consume(far, 5, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_stream_commit(near, 1, error));
    OK(wigwag_stream_set_timeouts(far, 1000000, LIMIT_NS, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_stream_read(far, text, sizeof text, &got, error));
    OK(wigwag_stream_set_nonblocking(far, 1, error));
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_stream_read(far, text, sizeof text, &got, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_stream_read_exact(far, text, 1, error));
    OK(wigwag_stream_write(near, "x", 1, &got, error));
    CHECK(got == 1 && is_readable(wigwag_stream_fd(far, error), LIMIT_MS));
    OK(wigwag_stream_read(far, text, sizeof text, &got, error));
    CHECK(got == 1 && text[0] == 'x');
    wigwag_peer peer;
    OK(wigwag_stream_peer(far, &peer, error));
    CHECK(peer.pid == getpid());
    OK(wigwag_stream_set_nonblocking(far, 0, error));
    OK(wigwag_stream_shutdown(near, WIGWAG_SHUTDOWN_WRITE, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_stream_shutdown(near, 9, error));
    OK(wigwag_stream_read(far, text, sizeof text, &got, error));
    CHECK(got == 0);
    OK(wigwag_stream_abort(far, "enough", error));
    IS(WIGWAG_ERR_ABORTED, wigwag_stream_read(near, text, sizeof text, &got, error));
    CHECK(strstr(wigwag_error_text(error), "enough") != NULL);
    OK(wigwag_stream_free(near));
    OK(wigwag_stream_free(far));
    OK(wigwag_stop_shutdown(stop));
    IS(WIGWAG_ERR_SERVER_CLOSED, wigwag_listener_accept(listener, &far, error));
    OK(wigwag_stop_free(stop));
    OK(wigwag_listener_free(listener));
}

/* ---- the semaphore, and the rest ------------------------------------------------------------------------------- */

static void semaphore(wigwag_error *error)
{
    wigwag_semaphore *semaphore;
    wigwag_permit *one, *two, *none;

    OK(wigwag_semaphore_open(name_of("permits"), 3, 0, &semaphore, error));
    CHECK(strstr(wigwag_semaphore_path(semaphore), "permits") != NULL);
    OK(wigwag_semaphore_check_name(semaphore, error));
    OK(wigwag_semaphore_acquire(semaphore, 1, WIGWAG_FOREVER, &one, error));
    OK(wigwag_semaphore_acquire(semaphore, 2, LIMIT_NS, &two, error));
    CHECK(wigwag_semaphore_available(semaphore) == 0);
    CHECK(wigwag_permit_recovered(one) == 0 && wigwag_permit_recovered(two) == 0);
    IS(WIGWAG_ERR_WOULD_BLOCK, wigwag_semaphore_acquire(semaphore, 1, 0, &none, error));
    IS(WIGWAG_ERR_TIMED_OUT, wigwag_semaphore_acquire(semaphore, 2, 1000000, &none, error));
    OK(wigwag_permit_release(two));
    CHECK(wigwag_semaphore_available(semaphore) == 2);
    OK(wigwag_semaphore_free(semaphore));
    OK(wigwag_permit_release(one)); /* which outlives it */
    IS(WIGWAG_ERR_INVALID_CONFIGURATION, wigwag_semaphore_open(name_of("none"), 0, 0, &semaphore, error));
}

static int find(const char *path, const wigwag_service *service, void *user)
{
    const char **wanted = user;
    if (strcmp(path, *wanted) != 0 || service->size != sizeof *service)
        return 0;
    *wanted = NULL;
    return 1;
}

/* Options of one form, given to another: the sentence names the field, and who has it. */
static void options_of_another(wigwag_error *error)
{
    wigwag_server *server = NULL;
    wigwag_listener *listener = NULL;
    wigwag_receiver *receiver = NULL;
    wigwag_publisher *publisher = NULL;
    wigwag_listen_options options = {0};

    options.size = sizeof options;
    options.shared = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_server_bind(name_of("another"), &options, &server, error));
    CHECK(strstr(wigwag_error_text(error), "`shared`") != NULL);
    CHECK(strstr(wigwag_error_text(error), "wigwag_receiver_bind()") != NULL);
    options.shared = 0;
    options.kept_by = "keeper";
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_listener_bind(name_of("another"), &options, &listener, error));
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_publisher_bind(name_of("another"), &options, &publisher, error));
    CHECK(strstr(wigwag_error_text(error), "`kept_by`") != NULL);
    options.kept_by = NULL;
    options.allow_unkept = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_receiver_bind(name_of("another"), &options, &receiver, error));
    CHECK(strstr(wigwag_error_text(error), "set `kept_by`") != NULL);
    options.allow_unkept = 0;
    options.history = 8;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_receiver_bind(name_of("another"), &options, &receiver, error));
    CHECK(strstr(wigwag_error_text(error), "wigwag_publisher_bind()") != NULL);
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_server_bind(name_of("another"), &options, &server, error));
    CHECK(server == NULL && listener == NULL && receiver == NULL && publisher == NULL);
}

/* A program that was compiled before there were `kept_by` and what follows: its struct ends there, and what lies behind
 * it in its memory says nothing. A sanitizer sees who reads on. */
static void options_of_an_older_header(wigwag_error *error)
{
    wigwag_receiver *receiver;
    wigwag_listen_options options = {0};
    _Static_assert(offsetof(wigwag_listen_options, kept_by) == 192, "a field was put between those that were there");

    options.size = offsetof(wigwag_listen_options, kept_by);
    options.slots = 3;
    memset((unsigned char *)&options + options.size, 0xff, sizeof options - options.size);
    OK(wigwag_receiver_bind(name_of("older"), &options, &receiver, error));
    CHECK(strchr(wigwag_receiver_path(receiver), '@') == NULL); /* it shares its name with nobody */
    OK(wigwag_receiver_free(receiver));

    void *shorter = malloc(options.size);
    CHECK(shorter != NULL);
    memcpy(shorter, &options, options.size);
    OK(wigwag_receiver_bind(name_of("older"), shorter, &receiver, error));
    OK(wigwag_receiver_free(receiver));
    free(shorter);
}

static void mistakes(wigwag_error *error)
{
    wigwag_server *server;
    wigwag_client *client, *none = NULL;
    wigwag_loan *loan;
    wigwag_reply *reply;
    void *data;

    OK(wigwag_server_bind(name_of("mistakes"), unhurried(), &server, error));
    OK(wigwag_client_connect(name_of("mistakes"), NULL, &client, error));
    const char *wanted = wigwag_server_path(server);
    OK(wigwag_list(find, &wanted, error));
    CHECK(wanted == NULL || !can_observe);

    /* NULL, where something is needed. */
    IS(WIGWAG_ERR_NULL, wigwag_client_connect(NULL, NULL, &none, error));
    IS(WIGWAG_ERR_NULL, wigwag_client_connect("x", NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_client_loan(NULL, 1, 0, &loan, &data, error));
    IS(WIGWAG_ERR_NULL, wigwag_client_loan(client, 1, 0, NULL, &data, error));
    IS(WIGWAG_ERR_NULL, wigwag_client_call(client, NULL, 1, 1, &reply, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_loan_call(NULL, 1, &reply, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_server_serve(server, NULL, NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_server_fd(NULL, error));
    IS(WIGWAG_ERR_NULL, wigwag_list(NULL, NULL, error));
    CHECK(wigwag_client_capacity(NULL) == 0 && wigwag_server_path(NULL) == NULL);
    CHECK(wigwag_pending_user(NULL) == NULL && wigwag_request_is_abandoned(NULL) == 0);
    OK(wigwag_client_free(NULL));
    OK(wigwag_loan_release(NULL));
    OK(wigwag_pending_abandon(NULL));
    OK(wigwag_reply_release(NULL));
    OK(wigwag_request_drop(NULL));
    OK(wigwag_sender_free(NULL));
    OK(wigwag_message_nack(NULL));
    OK(wigwag_error_free(NULL));
    IS(WIGWAG_ERR_NOT_RUNNING, wigwag_client_connect(name_of("nobody"), NULL, &none, NULL)); /* and tells nobody */
    CHECK(none == NULL);

    /* Handles of another form, and texts that are none. */
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_client_loan((wigwag_client *)server, 1, 0, &loan, &data, error));
    CHECK(strstr(wigwag_error_text(error), "Server") != NULL);
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_server_free((wigwag_server *)client));
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_client_free((wigwag_client *)(void *)rooms));
    OK(wigwag_client_loan(client, 1, 0, &loan, &data, error));
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_reply_release((wigwag_reply *)loan));
    CHECK(wigwag_error_code(error) == WIGWAG_ERR_INVALID_HANDLE);
    OK(wigwag_loan_release(loan));
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_loan_release(loan)); /* twice: a call's memory stays its client's */
    IS(WIGWAG_ERR_INVALID_HANDLE, wigwag_loan_call(loan, 1, &reply, NULL, NULL, error));
    IS(WIGWAG_ERR_NAME_INVALID, wigwag_client_connect("a/b", NULL, &none, error));

    /* Options: no size, a size of another header, something that only a younger header has. */
    wigwag_connect_options options = {0};
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_connect(name_of("mistakes"), &options, &none, error));
    CHECK(strstr(wigwag_error_text(error), "sizeof") != NULL);
    options.size = offsetof(wigwag_connect_options, timeout_ns);
    options.slots = 2;
    OK(wigwag_client_connect(name_of("mistakes"), &options, &none, error));
    CHECK(wigwag_client_slots(none) == 2);
    OK(wigwag_client_free(none));
    struct {
        wigwag_connect_options options;
        uint64_t younger;
    } more = {{0}, 0};
    more.options.size = sizeof more;
    OK(wigwag_client_connect(name_of("mistakes"), &more.options, &none, error));
    OK(wigwag_client_free(none));
    more.younger = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_connect(name_of("mistakes"), &more.options, &none, error));
    options.size = sizeof options;
    options.wait = 9;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_connect(name_of("mistakes"), &options, &none, error));
    options.wait = 0;
    options.contract_name = "something else";
    IS(WIGWAG_ERR_CONTRACT_MISMATCH, wigwag_client_connect(name_of("mistakes"), &options, &none, error));
    options.contract_name = NULL;
    options.contract_version = 1;
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_connect(name_of("mistakes"), &options, &none, error));
    wigwag_client_stats stats = {0};
    IS(WIGWAG_ERR_INVALID_ARGUMENT, wigwag_client_statistics(client, &stats, error));
    options_of_another(error);
    options_of_an_older_header(error);

    /* A child has nothing of its parent's. */
    pid_t child = fork();
    if (child == 0) {
        int code = wigwag_client_loan(client, 1, 0, &loan, &data, error);
        int is_right = code == WIGWAG_ERR_FORKED && wigwag_client_free(client) == WIGWAG_OK;
        /* Not an exit: valgrind would look for what the parent's threads have, which are not here. */
        execlp(is_right ? "true" : "false", "child", (char *)NULL);
        _exit(127);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    OK(wigwag_client_loan(client, 1, 0, &loan, &data, error));
    OK(wigwag_loan_release(loan));
    OK(wigwag_client_free(client));
    OK(wigwag_server_free(server));
}

/* A call that finds another one in its handle. */
static void *receive(void *argument)
{
    wigwag_request *request = NULL;
    int code;

    do { /* the other thread may look just now */
        code = wigwag_server_recv(argument, LIMIT_NS, &request, NULL);
    } while (code == WIGWAG_ERR_IN_USE);
    wigwag_request_drop(request);
    return (void *)(intptr_t)code;
}

static void two_threads(wigwag_error *error)
{
    wigwag_server *server;
    wigwag_stop *stop;
    wigwag_request *request = NULL;
    pthread_t thread;
    void *result;
    int code = WIGWAG_OK;

    OK(wigwag_server_bind(name_of("two"), unhurried(), &server, error));
    OK(wigwag_server_stop(server, &stop, error));
    CHECK(pthread_create(&thread, NULL, receive, server) == 0);
    for (int64_t until = now_ns() + LIMIT_NS; code != WIGWAG_ERR_IN_USE && now_ns() < until; pause_ms(1))
        code = wigwag_server_recv(server, 0, &request, error);
    CHECK(code == WIGWAG_ERR_IN_USE);
    IS(WIGWAG_ERR_IN_USE, wigwag_server_free(server));
    OK(wigwag_stop_shutdown(stop));
    CHECK(pthread_join(thread, &result) == 0 && (intptr_t)result == WIGWAG_ERR_SERVER_CLOSED);
    OK(wigwag_stop_free(stop));
    OK(wigwag_server_free(server));
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: forms DIRECTORY\n");
        return 2;
    }
    directory = argv[1];
    wigwag_error *error = wigwag_error_new();
    CHECK(error != NULL && wigwag_error_code(error) == WIGWAG_OK && *wigwag_error_text(error) == '\0');
    CHECK(strcmp(wigwag_version(), WIGWAG_VERSION) == 0);
    CHECK(strcmp(wigwag_code_name(WIGWAG_ERR_PEER_DIED), "WIGWAG_ERR_PEER_DIED") == 0);
    CHECK(strstr(wigwag_code_name(12345), "does not know") != NULL);
    exchange(error, 1);
    exchange(error, 2);
    loops(error);
    descriptors(error);
    queue(error);
    shared_queue(error);
    keepers(error);
    stream(error);
    semaphore(error);
    mistakes(error);
    two_threads(error);
    OK(wigwag_error_free(error));
    puts("all forms");
    return 0;
}
