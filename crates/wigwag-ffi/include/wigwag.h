/*
 * Wigwag: shared memory for programs that talk to each other on one machine.
 *
 * This is all of the C interface. docs/c.md shows it at work; wigwag.hpp has the same for C++.
 * It is made of the library's sources: change it there.
 *
 * Handles. Everything is a pointer to a type of which only the name is known. A function that makes one writes it
 * through a pointer to a pointer; one function ends it, and each handle says which. Functions that end something do
 * nothing with NULL.
 *
 * Results. Almost every function returns `int`: WIGWAG_OK, which is 0, or a negative wigwag_code. What it gives
 * otherwise is written to the places that were passed, and only if it succeeds. What it has to say about a failure is
 * written to the wigwag_error that was passed last, if that is not NULL.
 *
 * Borrowed bytes. Payloads are not copied: functions lend addresses inside of memory that both processes have. Each
 * says until which call these are valid. To touch them later is a fault that nobody notices: the memory is there, and
 * is the other process's.
 *
 * Times are nanoseconds in `int64_t`: 0 means not at all, every negative number (WIGWAG_FOREVER) as long as it takes.
 *
 * Threads. A handle may be used by any thread, and by one at a time unless its description says more. A call that finds
 * another one in its handle returns WIGWAG_ERR_IN_USE and changes nothing, as long as they do not come at the same
 * instant: that is noticed so that you can find it, and no lock. Functions may be called while other handles are in use
 * by other threads. Nothing here is for signal handlers.
 *
 * Processes. After fork() the child has none of its parent's handles: each call says WIGWAG_ERR_FORKED. It may free
 * them. exec() leaves nothing open.
 *
 * Event loops. wigwag_X_fd() gives the one descriptor to poll for reading; wigwag_X_process() does what is due, never
 * waits, and once it finds nothing has armed the descriptor. Connecting and binding wait.
 *
 * Mistakes. NULL, a handle of another form, one that was ended or freed and the like give an error as long as they can
 * be noticed, which ends when the memory is used for something else. No panic of the library leaves it, and none may
 * come in: callbacks return, and neither throw nor longjmp().
 */


#ifndef WIGWAG_H
#define WIGWAG_H

#include <stddef.h>
#include <stdint.h>

/* Of the functions in this header: the library's, and nobody else's. */
#if defined(__GNUC__) && !defined(WIGWAG_API)
#define WIGWAG_API __attribute__((visibility("default")))
#elif !defined(WIGWAG_API)
#define WIGWAG_API
#endif

/* The version of this header; wigwag_version() says that of the library. */
#define WIGWAG_VERSION "0.1.0"


/**
 * Waits as long as it takes, where a function has a `timeout_ns`. Every negative number means the same.
 */
#define WIGWAG_FOREVER (-1)

/**
 * Spin while the answer is nearer than a wake-up is long, sleep otherwise; learned from what happens. The default.
 */
#define WIGWAG_WAIT_ADAPTIVE 0

/**
 * Never sleep: the least latency for the price of a processor.
 */
#define WIGWAG_WAIT_SPIN 1

/**
 * Never spin: the least processor time for the price of a wake-up each way.
 */
#define WIGWAG_WAIT_PARK 2

/**
 * As `linger_ns`: whoever frees the sender does not wait for anything.
 */
#define WIGWAG_NO_LINGER (-2)

/**
 * A subscriber begins with the first message that is published from now on. The default.
 */
#define WIGWAG_START_NEXT 0

/**
 * A subscriber begins with the oldest message that is kept.
 */
#define WIGWAG_START_OLDEST 1

/**
 * A subscriber begins with the newest message that is there.
 */
#define WIGWAG_START_LAST 2

/**
 * A publisher replaces the oldest message; a subscriber that has not read it loses it, and is told. The default.
 */
#define WIGWAG_OVERRUN_DROP_OLDEST 0

/**
 * A publisher waits for its own user's subscribers, for each at most `patience_ns` within as many messages as are
 * kept; one that exceeds that is cut off and told.
 */
#define WIGWAG_OVERRUN_WAIT 1

/**
 * The most file descriptors that travel with one request, reply or message.
 */
#define WIGWAG_DESCRIPTORS_MAX 16

/**
 * For wigwag_stream_shutdown(): no more reading.
 */
#define WIGWAG_SHUTDOWN_READ 1

/**
 * For wigwag_stream_shutdown(): no more writing, and the other end reads to its end.
 */
#define WIGWAG_SHUTDOWN_WRITE 2

/**
 * For wigwag_stream_shutdown(): both.
 */
#define WIGWAG_SHUTDOWN_BOTH 3

/**
 * The form of a service: calls and replies.
 */
#define WIGWAG_FORM_EXCHANGE 1

/**
 * The form of a service: messages one way.
 */
#define WIGWAG_FORM_QUEUE 2

/**
 * The form of a service: bytes both ways.
 */
#define WIGWAG_FORM_STREAM 3

/**
 * The form of a service: messages to all who listen.
 */
#define WIGWAG_FORM_BROADCAST 4

/**
 * The form of a service: one that this version of the interface does not know.
 */
#define WIGWAG_FORM_OTHER 0

/**
 * What a function returns: `WIGWAG_OK`, or what went wrong. All are negative but `WIGWAG_OK`. New ones may be added:
 * treat what you do not know as you treat `WIGWAG_ERR_OTHER`.
 *
 * A wigwag_error has a sentence beside it that names the value, the limit and the cure, and says of a call whether it
 * may have been executed.
 */
typedef enum {
    /**
     * It is done.
     */
    WIGWAG_OK = 0,
    /**
     * The name is empty, too long, or has a slash in it.
     */
    WIGWAG_ERR_NAME_INVALID = -1,
    /**
     * The path is not a socket of Wigwag's, or too long.
     */
    WIGWAG_ERR_PATH_INVALID = -2,
    /**
     * The directory belongs to somebody else, or others may write to it.
     */
    WIGWAG_ERR_DIRECTORY_UNSAFE = -3,
    /**
     * No server listens on the name.
     */
    WIGWAG_ERR_NOT_RUNNING = -4,
    /**
     * Another server has the name.
     */
    WIGWAG_ERR_NAME_TAKEN = -5,
    /**
     * The file of a semaphore was removed or replaced by another program while somebody had it open.
     */
    WIGWAG_ERR_NAME_LOST = -6,
    /**
     * The server refused the session: a policy or a limit.
     */
    WIGWAG_ERR_REFUSED = -7,
    /**
     * The server had no place for the session just now; later it may have.
     */
    WIGWAG_ERR_BUSY = -8,
    /**
     * The two sides speak different contracts, or forms.
     */
    WIGWAG_ERR_CONTRACT_MISMATCH = -9,
    /**
     * The two sides are of versions that do not understand each other.
     */
    WIGWAG_ERR_VERSION_MISMATCH = -10,
    /**
     * The payload is larger than the session's capacity.
     */
    WIGWAG_ERR_CAPACITY_EXCEEDED = -11,
    /**
     * All slots are out, or as many descriptors are under way as may be.
     */
    WIGWAG_ERR_FULL = -12,
    /**
     * The two sides have not agreed on it, as on descriptors.
     */
    WIGWAG_ERR_NOT_AGREED = -13,
    /**
     * The time allowed ran out.
     */
    WIGWAG_ERR_TIMED_OUT = -14,
    /**
     * The other process is gone without a farewell: killed, crashed, or exited.
     */
    WIGWAG_ERR_PEER_DIED = -15,
    /**
     * The server shut down in good order, or ended this session with a reason.
     */
    WIGWAG_ERR_SERVER_CLOSED = -16,
    /**
     * One end of a stream gave it up before it was complete.
     */
    WIGWAG_ERR_ABORTED = -17,
    /**
     * The handler failed; the sentence has its text.
     */
    WIGWAG_ERR_HANDLER_FAILED = -18,
    /**
     * The handler panicked; the sentence has its message. The server goes on.
     */
    WIGWAG_ERR_HANDLER_PANICKED = -19,
    /**
     * The server dropped the request without an answer.
     */
    WIGWAG_ERR_UNANSWERED = -20,
    /**
     * The handle was made before a fork, and is used in the child.
     */
    WIGWAG_ERR_FORKED = -21,
    /**
     * The other side wrote something that the protocol does not allow.
     */
    WIGWAG_ERR_VIOLATION = -22,
    /**
     * A value could not be encoded.
     */
    WIGWAG_ERR_ENCODING = -23,
    /**
     * An option is outside of its limits.
     */
    WIGWAG_ERR_INVALID_CONFIGURATION = -24,
    /**
     * The operating system refused something: wigwag_error_os_error() has its number.
     */
    WIGWAG_ERR_IO = -25,
    /**
     * Something that this version of the interface has no code for.
     */
    WIGWAG_ERR_OTHER = -26,
    /**
     * A publisher has ended its broadcast in good order, and all that it had published was read.
     */
    WIGWAG_ERR_ENDED = -27,
    /**
     * Nothing is there, and waiting was not asked for.
     */
    WIGWAG_ERR_WOULD_BLOCK = -100,
    /**
     * A pointer that is needed is NULL, or points to nothing of its kind.
     */
    WIGWAG_ERR_NULL = -101,
    /**
     * The handle is of another form, was ended or freed, or never was one. This is noticed as long as the memory is
     * not used for something else: do not rely on it.
     */
    WIGWAG_ERR_INVALID_HANDLE = -102,
    /**
     * Another call is in this handle, which only one may be in at a time.
     */
    WIGWAG_ERR_IN_USE = -103,
    /**
     * An argument makes no sense; the sentence says which one and why.
     */
    WIGWAG_ERR_INVALID_ARGUMENT = -104,
    /**
     * A fault in Wigwag itself: please report it with the sentence. The handle can only be freed now.
     */
    WIGWAG_ERR_PANICKED = -105,
} wigwag_code;

/**
 * A client: a session with a server, with memory that only the two share. It asks, and gets back what it asked with,
 * changed.
 *
 * One thread at a time may use a client and all loans, pendings and replies of it: they are one thing. It may be
 * another thread each time. Threads that call at the same time have a client each (wigwag_client_clone()).
 */
typedef struct wigwag_client wigwag_client;

/**
 * What a call that failed has to say. Made by wigwag_error_new() and used again and again: each function that fails
 * overwrites it, and one that succeeds leaves it as it is. Every function that takes one takes NULL as well.
 *
 * One thread at a time may use it.
 */
typedef struct wigwag_error wigwag_error;

/**
 * A keeper: it has the messages of queues whose receivers name it (`kept_by` of wigwag_listen_options) until both
 * sides of a session are dead, and hands what was not acknowledged to whoever binds the queue's name next.
 *
 * It works by threads of its own, and on no path of a message. It keeps for as long as its process lives: in the
 * process of a sender or a receiver it has no use. `wigwag queue keep NAME` is the same as a program. Any number of
 * threads may use one.
 */
typedef struct wigwag_keeper wigwag_keeper;

/**
 * Takes a name and accepts streams. Any number of threads may use a listener.
 */
typedef struct wigwag_listener wigwag_listener;

/**
 * Memory that the server already has, borrowed to build a request there.
 */
typedef struct wigwag_loan wigwag_loan;

/**
 * A message that was received: the sender's bytes where they lie, until it is given back. One thread at a time may use
 * it, and any may.
 */
typedef struct wigwag_message wigwag_message;

/**
 * A call that is with the server.
 */
typedef struct wigwag_pending wigwag_pending;

/**
 * One permit or several, acquired together and given back together. It outlives the handle of its semaphore.
 */
typedef struct wigwag_permit wigwag_permit;

/**
 * A publisher: it owns a name, and its messages go to all who listen there, each of whom reads them in place. It does
 * not know whether somebody does, and a subscriber that is slow, stopped or dead costs it nothing, but with
 * `WIGWAG_OVERRUN_WAIT`.
 *
 * One thread at a time may use a publisher. wigwag_stop ends one from any thread.
 */
typedef struct wigwag_publisher wigwag_publisher;

/**
 * The receiver of a queue: it owns the name, and takes what senders send there.
 *
 * Any number of threads may receive at the same time. Whoever uses wigwag_receiver_fd() and wigwag_receiver_process()
 * is alone with it meanwhile.
 */
typedef struct wigwag_receiver wigwag_receiver;

/**
 * The same memory, changed by the server.
 */
typedef struct wigwag_reply wigwag_reply;

/**
 * A request: the client's bytes where they lie. What is there when it is answered is the reply.
 *
 * One thread at a time may use a request; it may be another one than the server's.
 */
typedef struct wigwag_request wigwag_request;

/**
 * A message of a publisher, as a subscriber has taken it. One of more than 48 bytes is read where the publisher wrote
 * it, and held there until it is released: the publisher writes elsewhere meanwhile, also if it ends or is killed. How
 * many one subscriber holds at a time is the publisher's to say; what cannot be held is a copy.
 *
 * One thread at a time may use it, and any may. It outlives the handle of its subscriber. In a child after fork() its
 * bytes must not be touched.
 */
typedef struct wigwag_sample wigwag_sample;

/**
 * A semaphore by name: so many permits for all programs of this user that open it. With one permit it is a mutex. What
 * a process holds when it dies comes back, and whoever gets it next is told.
 *
 * Any number of threads may use one.
 */
typedef struct wigwag_semaphore wigwag_semaphore;

/**
 * A sender of a queue: messages go one way, to the one receiver of the name, and each is kept until the receiver has
 * acknowledged it. If the receiver dies, the next call finds its successor and gives it what was not.
 *
 * One thread at a time may use a sender. Threads that send at the same time have one each.
 */
typedef struct wigwag_sender wigwag_sender;

/**
 * A server: it owns a name, and changes what clients hand it.
 *
 * One thread at a time may use a server. Its requests are handles of their own: each may be answered by another
 * thread. wigwag_stop ends a server from any thread.
 */
typedef struct wigwag_server wigwag_server;

/**
 * Ends a server, a receiver, a listener or a publisher from another thread. Any number of threads may use one. It
 * outlives what it ends, and must be freed by itself. It is not for signal handlers.
 */
typedef struct wigwag_stop wigwag_stop;

/**
 * One end of a byte stream between two processes: bytes both ways, in order, without their borders, as through a
 * socket.
 *
 * One thread may read while another one writes. Whoever uses wigwag_stream_peek(), wigwag_stream_consume(),
 * wigwag_stream_reserve() or wigwag_stream_commit() is alone with it meanwhile.
 */
typedef struct wigwag_stream wigwag_stream;

/**
 * A subscriber: it takes the messages of a publisher, all of them in order, or with the number of those that it was
 * too slow for. It can write nothing of the publisher's, and its death costs that one nothing.
 *
 * One thread at a time may use a subscriber; its samples are handles of their own.
 */
typedef struct wigwag_subscriber wigwag_subscriber;

/**
 * What a client, a sender, a stream or a subscriber wishes for before it connects. Set all of it to zero and `size` to
 * its size; what stays zero is the default. NULL is all defaults.
 *
 *     wigwag_connect_options options = {0};
 *     options.size = sizeof options;
 *     options.slots = 4;
 */
typedef struct {
    /**
     * sizeof(wigwag_connect_options).
     */
    size_t size;
    /**
     * How many calls or messages can be under way at a time, 1 to 4096. 0: the server's choice. Not of streams
     * and subscribers.
     */
    size_t slots;
    /**
     * The largest payload in bytes, up to 1 GiB; of a stream, how many bytes can be under way in each direction.
     * 0: the server's choice. Not of subscribers.
     */
    size_t capacity;
    /**
     * WIGWAG_WAIT_ADAPTIVE, WIGWAG_WAIT_SPIN or WIGWAG_WAIT_PARK.
     */
    int wait;
    /**
     * 1: file descriptors may travel, if the other side says so too.
     */
    int descriptors;
    /**
     * How long the server may take to answer the connect, in nanoseconds. 0: 5 seconds.
     */
    int64_t timeout_ns;
    /**
     * How long to look for a server where none runs, in nanoseconds. 0: not at all.
     */
    int64_t server_timeout_ns;
    /**
     * Of a client or a subscriber: its next call looks for the next server, or publisher, for so long once this one
     * has ended. 0: it ends with its server.
     */
    int64_t reconnect_ns;
    /**
     * Of a client: as `reconnect_ns`, and calls that the server had not begun go on at the next one. 0: they fail.
     */
    int64_t follow_restarts_ns;
    /**
     * Of a sender: how long wigwag_sender_free() waits until all is acknowledged. 0: as long as a receiver lives, and
     * 5 seconds where there is none. WIGWAG_NO_LINGER: not at all.
     */
    int64_t linger_ns;
    /**
     * 1: the server runs as the user `server_user`. 0: as this one.
     */
    int has_server_user;
    /**
     * See `has_server_user`.
     */
    uint32_t server_user;
    /**
     * What both sides call their payloads; the server is asked whether it speaks the same. NULL: "bytes".
     */
    const char *contract_name;
    /**
     * The version of the payloads' meaning.
     */
    uint32_t contract_version;
    /**
     * Of a plain-memory type that the server names: its size in bytes. 0: payloads are bytes of any length.
     */
    uint32_t contract_size;
    /**
     * Of a plain-memory type that the server names: its alignment in bytes, at most 16.
     */
    uint32_t contract_align;
    /**
     * Of a subscriber: which message comes first. WIGWAG_START_NEXT, WIGWAG_START_OLDEST or WIGWAG_START_LAST.
     */
    int start;
} wigwag_connect_options;

/**
 * What a client has counted since it connected: see wigwag_client_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_client_stats), set by the caller.
     */
    size_t size;
    /**
     * Requests passed to the server.
     */
    uint64_t calls;
    /**
     * Of these, with a system call because the server slept.
     */
    uint64_t doorbells_rung;
    /**
     * Times this client slept until a doorbell rang.
     */
    uint64_t sleeps;
    /**
     * Calls under way.
     */
    uint64_t in_flight;
    /**
     * Calls given up before their reply came.
     */
    uint64_t abandoned;
    /**
     * Sessions made after the first, because the server had ended.
     */
    uint64_t reconnects;
    /**
     * Calls that went on at the next server.
     */
    uint64_t moved;
} wigwag_client_stats;

/**
 * What a server, a receiver, a listener or a publisher allows. Set all of it to zero and `size` to its size; what
 * stays zero is the default. NULL is all defaults: clients of the same user, and the limits that docs/failures.md
 * lists.
 */
typedef struct {
    /**
     * sizeof(wigwag_listen_options).
     */
    size_t size;
    /**
     * The most calls or messages of a session that can be under way, and what a client gets that does not ask. 0: 16
     * calls, 256 messages. Of a publisher: the most messages that one subscriber may hold in place, up to 64. 0: 4.
     */
    size_t slots;
    /**
     * The largest payload in bytes, and what a client gets that does not ask; of a listener, the bytes under way in
     * each direction of a stream. 0: 1 MiB of a server, 64 KiB of a receiver or a publisher, 2 MiB of a listener.
     */
    size_t capacity;
    /**
     * WIGWAG_WAIT_ADAPTIVE, WIGWAG_WAIT_SPIN or WIGWAG_WAIT_PARK.
     */
    int wait;
    /**
     * 1: file descriptors may travel with those who ask for it, too.
     */
    int descriptors;
    /**
     * Of a listener: how many streams may wait to be accepted. 0: 128.
     */
    size_t backlog;
    /**
     * The most sessions at a time. 0: 4096.
     */
    size_t max_sessions;
    /**
     * The most sessions of one user. 0: 4096 of the own one, 256 of each other.
     */
    size_t max_sessions_per_user;
    /**
     * The most memory of one session in bytes. 0: 8 GiB.
     */
    size_t max_bytes_per_session;
    /**
     * The most memory of all sessions in bytes. 0: 64 GiB.
     */
    size_t max_bytes_total;
    /**
     * How many may be connecting at a time. 0: 256.
     */
    size_t max_handshakes;
    /**
     * How long a client may take to connect, in nanoseconds. 0: 1 second.
     */
    int64_t handshake_timeout_ns;
    /**
     * Takes the name over from the server that has it, which may take so long, in nanoseconds. 0: a name that is taken
     * is an error.
     */
    int64_t replace_ns;
    /**
     * Other users who may connect, by number.
     */
    const uint32_t *allow_users;
    /**
     * How many they are.
     */
    size_t allow_user_count;
    /**
     * Groups whose members may connect, by number.
     */
    const uint32_t *allow_groups;
    /**
     * How many they are.
     */
    size_t allow_group_count;
    /**
     * 1: everybody may connect.
     */
    int allow_everyone;
    /**
     * 1: `listener` is the socket, as a service manager hands it over. It belongs to the server from then on.
     */
    int has_listener;
    /**
     * See `has_listener`.
     */
    int listener;
    /**
     * As wigwag_connect_options has it.
     */
    uint32_t contract_version;
    /**
     * As wigwag_connect_options has it.
     */
    const char *contract_name;
    /**
     * As wigwag_connect_options has it.
     */
    uint32_t contract_size;
    /**
     * As wigwag_connect_options has it.
     */
    uint32_t contract_align;
    /**
     * Of a publisher: how many messages are kept for subscribers that read later, up to 65536. 0: 64.
     */
    size_t history;
    /**
     * Of a publisher: how many messages all subscribers together may hold in place, up to 65536; `slots` says how many
     * each of them. Who comes when they are given away gets copies. 0: 64.
     */
    size_t max_holds;
    /**
     * Of a publisher: what becomes of the oldest message when the next one needs its place.
     * WIGWAG_OVERRUN_DROP_OLDEST or WIGWAG_OVERRUN_WAIT.
     */
    int overrun;
    /**
     * Of a publisher: 1: nobody holds messages in place, and every subscriber gets copies.
     */
    int has_no_holds;
    /**
     * Of a publisher with WIGWAG_OVERRUN_WAIT: how long it waits for each subscriber, in nanoseconds. 0: it never
     * waits, and sends are `WIGWAG_ERR_FULL` until there is room.
     */
    int64_t patience_ns;
    /**
     * Of a receiver: the name of the keeper of its messages (`wigwag queue keep NAME`, or wigwag_keeper_start()),
     * which may be the queue's own. What is not acknowledged outlives a sender and this process, and goes to whoever
     * binds the name next. While there is no keeper, binding fails with `WIGWAG_ERR_NOT_RUNNING`. NULL: there is none.
     */
    const char *kept_by;
    /**
     * Of a publisher: the number of its first message, for one that publishes again what another has published. 0: 1.
     */
    uint64_t first_number;
    /**
     * Of a receiver: 1: receivers in up to 64 processes, all of which say so, have the same name and take turns. What
     * one of them leaves when it dies goes to another. Not together with `replace_ns` or `has_listener`.
     */
    int shared;
    /**
     * Of a receiver with `kept_by`: 1: senders whose messages cannot be kept are let in, too. 0: they are refused.
     */
    int allow_unkept;
    /**
     * Of a publisher with WIGWAG_OVERRUN_WAIT: 1: of the messages that every subscriber has taken only `retain` are
     * kept for who comes later. The memory of the others is written to again while it is in the processor's cache,
     * which is the quickest for large messages. 0: as many as `history` are kept.
     */
    int retains_less;
    /**
     * Of a publisher with `retains_less`: how many, up to `history`.
     */
    size_t retain;
} wigwag_listen_options;

/**
 * Changes a request in place; what it leaves there is the reply. Returns 0, or anything else for a failure, of which
 * the client is told: with the text of wigwag_request_fail(), if that was called.
 *
 * `request` is valid until the handler returns, and is used there by one thread. It must not be given to
 * wigwag_request_reply() or wigwag_request_drop(). The handler must return: no longjmp(), no exception.
 */
typedef int (*wigwag_handler)(wigwag_request *request, void *user);

/**
 * What a server has counted since it was bound: see wigwag_server_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_server_stats), set by the caller.
     */
    size_t size;
    /**
     * Sessions alive.
     */
    uint64_t sessions;
    /**
     * Sessions ever granted.
     */
    uint64_t sessions_accepted;
    /**
     * Handshakes refused or failed.
     */
    uint64_t sessions_refused;
    /**
     * Sessions ended because the client broke the protocol.
     */
    uint64_t violations;
    /**
     * Requests answered.
     */
    uint64_t calls;
    /**
     * Bytes of requests.
     */
    uint64_t bytes_in;
    /**
     * Bytes of replies.
     */
    uint64_t bytes_out;
    /**
     * Calls that failed, or were dropped unanswered.
     */
    uint64_t failed;
    /**
     * Replies that needed a system call because the client slept.
     */
    uint64_t doorbells_rung;
    /**
     * Times a serving thread slept.
     */
    uint64_t sleeps;
} wigwag_server_stats;

/**
 * Who is at the other end of a session, as it was when it connected.
 */
typedef struct {
    /**
     * Effective user.
     */
    uint32_t uid;
    /**
     * Effective group.
     */
    uint32_t gid;
    /**
     * Process id as this process sees it, 0 if it has none here. For people: it may be somebody else's by now.
     */
    int32_t pid;
} wigwag_peer;

/**
 * Bytes of yours.
 */
typedef struct {
    /**
     * Where they are; NULL if there are none.
     */
    const void *data;
    /**
     * How many.
     */
    size_t len;
} wigwag_bytes;

/**
 * What a sender has counted since it connected: see wigwag_sender_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_sender_stats), set by the caller.
     */
    size_t size;
    /**
     * Messages sent, each counted once.
     */
    uint64_t sent;
    /**
     * Of these, acknowledged.
     */
    uint64_t acknowledged;
    /**
     * Times a message that a receiver had been handed was sent again, to its successor.
     */
    uint64_t redelivered;
    /**
     * Messages that were not sent.
     */
    uint64_t refused;
    /**
     * Receivers found after one was gone.
     */
    uint64_t reconnects;
    /**
     * Times the receiver had to be rung for because it slept.
     */
    uint64_t doorbells_rung;
    /**
     * Times this sender slept until something was acknowledged.
     */
    uint64_t sleeps;
} wigwag_sender_stats;

/**
 * What a receiver has counted since it was bound: see wigwag_receiver_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_receiver_stats), set by the caller.
     */
    size_t size;
    /**
     * Messages handed out, each time they were.
     */
    uint64_t received;
    /**
     * Of these, those that had been handed out before.
     */
    uint64_t redelivered;
    /**
     * Messages acknowledged.
     */
    uint64_t acknowledged;
    /**
     * Messages given back to be delivered again.
     */
    uint64_t returned;
    /**
     * Senders connected.
     */
    uint64_t senders;
    /**
     * Senders that ever connected.
     */
    uint64_t senders_accepted;
    /**
     * Handshakes refused or failed.
     */
    uint64_t senders_refused;
    /**
     * Sessions ended because the sender broke the protocol.
     */
    uint64_t violations;
    /**
     * Times a receiving thread slept.
     */
    uint64_t sleeps;
} wigwag_receiver_stats;

/**
 * What a keeper keeps at most. Set all of it to zero and `size` to its size; what stays zero is the default. NULL is
 * all defaults.
 */
typedef struct {
    /**
     * sizeof(wigwag_keeper_options).
     */
    size_t size;
    /**
     * The most sessions at a time, each of which takes two descriptors: `ulimit -n` may make it fewer. 0: 4096.
     */
    size_t max_sessions;
    /**
     * The most bytes of all sessions' memory: address space, as for a receiver. 0: 64 GiB.
     */
    uint64_t max_bytes;
} wigwag_keeper_options;

/**
 * What a keeper has, and has done since it was started: see wigwag_keeper_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_keeper_stats), set by the caller.
     */
    size_t size;
    /**
     * Receivers that are connected.
     */
    uint64_t receivers;
    /**
     * Sessions whose memory it has.
     */
    uint64_t sessions;
    /**
     * Bytes of these: address space; memory is used as senders write.
     */
    uint64_t bytes;
    /**
     * Messages of dead senders and receivers that are not acknowledged yet.
     */
    uint64_t left;
    /**
     * Sessions ever kept.
     */
    uint64_t kept;
    /**
     * Sessions that were not, and their receivers were told so.
     */
    uint64_t refused;
    /**
     * Messages handed on and acknowledged.
     */
    uint64_t handed_on;
    /**
     * Of these, those that were marked as redelivered.
     */
    uint64_t redelivered;
    /**
     * Places of messages in which nothing was that could be read: their senders broke the protocol.
     */
    uint64_t unreadable;
    /**
     * The most sessions at a time.
     */
    uint64_t max_sessions;
    /**
     * The most bytes at a time.
     */
    uint64_t max_bytes;
} wigwag_keeper_stats;

/**
 * What a publisher has counted since it was bound: see wigwag_publisher_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_publisher_stats), set by the caller.
     */
    size_t size;
    /**
     * Messages published.
     */
    uint64_t published;
    /**
     * Subscribers just now.
     */
    uint64_t subscribers;
    /**
     * Subscribers that slept and were rung by the publishing thread.
     */
    uint64_t rung;
    /**
     * Messages for which a thread of its own was given the sleepers to wake, because they were many.
     */
    uint64_t handed_over;
    /**
     * Looks at what all subscribers hold.
     */
    uint64_t scans;
    /**
     * Subscribers that were cut off, because the publisher's patience was over.
     */
    uint64_t cut_off;
} wigwag_publisher_stats;

/**
 * One subscriber, as its publisher sees it: see wigwag_publisher_subscribers(). What one of another user says of
 * itself may be anything.
 */
typedef struct {
    /**
     * sizeof(wigwag_subscriber_state) of the library: fields behind those that you know may follow.
     */
    size_t size;
    /**
     * Who it is.
     */
    wigwag_peer peer;
    /**
     * 1 if it is of the publisher's user.
     */
    int is_same_user;
    /**
     * Messages that were published and that it has not taken.
     */
    uint64_t lag;
    /**
     * Messages that it took.
     */
    uint64_t received;
    /**
     * Messages that it has lost.
     */
    uint64_t lost;
    /**
     * How many messages it may hold at a time.
     */
    size_t may_hold;
    /**
     * How many it holds.
     */
    size_t holds;
    /**
     * 1 while it sleeps.
     */
    int is_asleep;
} wigwag_subscriber_state;

/**
 * Called for each subscriber: with what is seen of it, valid until it returns, and the pointer that
 * wigwag_publisher_subscribers() was given. Returns 0 to go on, anything else to end. It must return.
 */
typedef int (*wigwag_subscriber_visitor)(const wigwag_subscriber_state *subscriber, void *user);

/**
 * What a message was that was copied: see wigwag_subscriber_recv_copied().
 */
typedef struct {
    /**
     * sizeof(wigwag_receipt), set by the caller.
     */
    size_t size;
    /**
     * As wigwag_sample_sequence().
     */
    uint64_t sequence;
    /**
     * As wigwag_sample_lost_before().
     */
    uint64_t lost_before;
    /**
     * As wigwag_sample_is_of_new_publisher().
     */
    int is_of_new_publisher;
    /**
     * Zero.
     */
    int reserved;
} wigwag_receipt;

/**
 * What a subscriber has counted since it connected: see wigwag_subscriber_statistics().
 */
typedef struct {
    /**
     * sizeof(wigwag_subscriber_stats), set by the caller.
     */
    size_t size;
    /**
     * Messages taken.
     */
    uint64_t received;
    /**
     * Messages lost, all of which were told with a message or will be with the next.
     */
    uint64_t lost;
    /**
     * Times it slept.
     */
    uint64_t sleeps;
    /**
     * Publishers after the first, because that one had ended.
     */
    uint64_t publishers;
    /**
     * How many messages it may hold at a time; 0: it gets copies.
     */
    uint64_t may_hold;
    /**
     * How many it holds.
     */
    uint64_t held;
} wigwag_subscriber_stats;

/**
 * What somebody who is no client sees of a service: see wigwag_inspect(). It costs the service nothing.
 */
typedef struct {
    /**
     * sizeof(wigwag_service).
     */
    size_t size;
    /**
     * Process id of the service, for people.
     */
    uint32_t pid;
    /**
     * `WIGWAG_FORM_EXCHANGE`, `_QUEUE`, `_STREAM`, `_BROADCAST` or `_OTHER`.
     */
    int form;
    /**
     * 1 while its process runs, also if it is stopped.
     */
    int is_running;
    /**
     * 1 if its name leads to it, so that one can connect.
     */
    int has_name;
    /**
     * Sessions alive.
     */
    uint64_t sessions;
    /**
     * Calls answered, messages acknowledged, or messages published.
     */
    uint64_t calls;
    /**
     * Calls and messages that wait, and nobody has begun.
     */
    uint64_t waiting;
    /**
     * Calls and messages that the service has in hand.
     */
    uint64_t in_flight;
} wigwag_service;

/**
 * Called for each service: with the path of its socket, what is seen of it, both valid until it returns, and the
 * pointer that wigwag_list() was given. Returns 0 to go on, anything else to end. It must return.
 */
typedef int (*wigwag_visitor)(const char *path, const wigwag_service *service, void *user);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that this program runs with, as "1.2.3". It is valid for ever.
 */
WIGWAG_API const char *wigwag_version(void);

/**
 * The name of a code, such as "WIGWAG_ERR_PEER_DIED", for messages. It is valid for ever.
 */
WIGWAG_API const char *wigwag_code_name(int code);

/**
 * Makes an error object; NULL if there is no memory for it.
 */
WIGWAG_API wigwag_error *wigwag_error_new(void);

/**
 * Frees an error object, or does nothing with NULL.
 *
 * Returns `WIGWAG_OK`, or `WIGWAG_ERR_INVALID_HANDLE` where that can be noticed.
 */
WIGWAG_API int wigwag_error_free(wigwag_error *error);

/**
 * The code of what failed last; `WIGWAG_OK` if nothing has, or of NULL.
 */
WIGWAG_API int wigwag_error_code(const wigwag_error *error);

/**
 * A sentence for people that says what failed last, in UTF-8, without a full stop; "" if nothing has, or of NULL. It
 * is valid until the object is used for another call or freed.
 */
WIGWAG_API
const char *wigwag_error_text(const wigwag_error *error);

/**
 * 1 if the request that failed last may have been executed by the server, in part or as a whole, or may still be; 0 if
 * not. Whoever calls again after a 1 may have it executed twice.
 */
WIGWAG_API
int wigwag_error_maybe_executed(const wigwag_error *error);

/**
 * What errno would say of what failed last, or 0 if the operating system has nothing to do with it.
 */
WIGWAG_API int wigwag_error_os_error(const wigwag_error *error);

/**
 * Connects to a server of this user.
 *
 * `name`: of the server, as its owner has bound it; a path that begins with "/", "./" or "../" is taken as it is.
 * `options`: NULL for all defaults. `client`: where the handle goes; wigwag_client_free() ends it.
 *
 * It waits for the server to answer for up to 5 seconds, or `options->timeout_ns`.
 *
 * Fails with `WIGWAG_ERR_NOT_RUNNING`, `WIGWAG_ERR_REFUSED`, `WIGWAG_ERR_BUSY`, `WIGWAG_ERR_CONTRACT_MISMATCH`,
 * `WIGWAG_ERR_VERSION_MISMATCH`, `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_PEER_DIED`, and what is wrong with a name.
 */
WIGWAG_API
int wigwag_client_connect(const char *name,
                          const wigwag_connect_options *options,
                          wigwag_client **client,
                          wigwag_error *error);

/**
 * Another session with the same server and the same options: for another thread, or after the server has ended.
 *
 * Fails as wigwag_client_connect().
 */
WIGWAG_API
int wigwag_client_clone(const wigwag_client *client,
                        wigwag_client **clone,
                        wigwag_error *error);

/**
 * Ends a client, or does nothing with NULL. The session ends once the last loan, pending and reply of it is released,
 * which may come later; until then these can be used as before.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API
int wigwag_client_free(wigwag_client *client);

/**
 * The largest payload in bytes, request or reply; 0 of what is no client.
 */
WIGWAG_API size_t wigwag_client_capacity(const wigwag_client *client);

/**
 * How many calls can be out at a time; 0 of what is no client.
 */
WIGWAG_API size_t wigwag_client_slots(const wigwag_client *client);

/**
 * Borrows `len` bytes of memory that the server already has, to build a request there: no copy.
 *
 * `data`: where the address of the bytes goes, which are what a former call left there, zero at first. Up to 48 bytes
 * are aligned to 16, more to 4096. They are valid until the loan is given to wigwag_loan_call(), wigwag_loan_send() or
 * wigwag_loan_release(): one of these must follow.
 *
 * While all slots are out it waits for one that an abandoned call gives back, for up to `timeout_ns`:
 * `WIGWAG_FOREVER`, or 0 not to wait.
 *
 * Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`; `WIGWAG_ERR_FULL` when all slots are held, so that waiting would never
 * end; `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_client_loan(wigwag_client *client,
                       size_t len,
                       int64_t timeout_ns,
                       wigwag_loan **loan,
                       void **data,
                       wigwag_error *error);

/**
 * Copies a request in, calls, and gives the reply: the short form of wigwag_client_loan(), memcpy() and
 * wigwag_loan_call().
 *
 * `timeout_ns`: for all of it; `WIGWAG_FOREVER`, or 0 to look once.
 * `reply`: where the handle of the reply goes; wigwag_reply_release() ends it. `reply_data`, `reply_len`: where the
 * bytes of the reply are and how many; NULL if they are not wanted. They are valid until the reply is released.
 *
 * Fails as wigwag_client_loan() and wigwag_loan_call().
 */
WIGWAG_API
int wigwag_client_call(wigwag_client *client,
                       const void *request,
                       size_t request_len,
                       int64_t timeout_ns,
                       wigwag_reply **reply,
                       void **reply_data,
                       size_t *reply_len,
                       wigwag_error *error);

/**
 * Copies a request in, calls, and copies the reply out: for small payloads, because no handle has to be made and
 * ended. `request` and `reply` may be the same bytes.
 *
 * `timeout_ns`: for all of it; `WIGWAG_FOREVER`. `reply`, `reply_capacity`: room for the reply. `reply_len`: where its
 * length goes, also if it did not fit.
 *
 * Fails as wigwag_client_call(), and with `WIGWAG_ERR_CAPACITY_EXCEEDED` if the reply does not fit: the request was
 * executed then, and the reply is lost.
 */
WIGWAG_API
int wigwag_client_call_copied(wigwag_client *client,
                              const void *request,
                              size_t request_len,
                              int64_t timeout_ns,
                              void *reply,
                              size_t reply_capacity,
                              size_t *reply_len,
                              wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this client, or a negative code. It is the
 * client's: do not close it, and do not read from it. It stays the same for as long as the client lives.
 *
 * Once it is readable, call wigwag_client_process() until that finds nothing more. Call that once before the first
 * poll, too, and after each wigwag_loan_send().
 */
WIGWAG_API
int wigwag_client_fd(wigwag_client *client,
                     wigwag_error *error);

/**
 * What an event loop does when the client's descriptor is readable. It never waits.
 *
 * `ready`: where a call goes whose reply or error is there, for wigwag_pending_wait(), which then returns at once; or
 * NULL when none is there: from then on the descriptor becomes readable when one is. So call it until it gives NULL.
 * A call that was found and not taken is found again.
 *
 * Fails with `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_VIOLATION` once the session is over and
 * no call has anything to tell: the descriptor is silent from then on. A client with `reconnect_ns` or
 * `follow_restarts_ns` goes on: call this, or anything else, from time to time until a server is there.
 */
WIGWAG_API
int wigwag_client_process(wigwag_client *client,
                          wigwag_pending **ready,
                          wigwag_error *error);

/**
 * What a client has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_client_statistics(const wigwag_client *client,
                             wigwag_client_stats *stats,
                             wigwag_error *error);

/**
 * Passes a loan to the server and waits for the reply: the same memory, changed.
 *
 * The loan is a loan no more, whatever comes of it, unless the code is `WIGWAG_ERR_INVALID_HANDLE`,
 * `WIGWAG_ERR_IN_USE`, `WIGWAG_ERR_NULL` or `WIGWAG_ERR_INVALID_ARGUMENT`. `timeout_ns`: how long to wait;
 * `WIGWAG_FOREVER`. The server learns of it. `reply`: where the handle of the reply goes; wigwag_reply_release() or
 * wigwag_reply_into_loan() ends it. `reply_data`, `reply_len`: where the bytes of the reply are and how many; NULL if
 * they are not wanted. They are valid until the reply is ended.
 *
 * Fails with `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_PEER_DIED` and `WIGWAG_ERR_SERVER_CLOSED`, for which
 * wigwag_error_maybe_executed() says whether the request may have been executed; `WIGWAG_ERR_HANDLER_FAILED`,
 * `WIGWAG_ERR_HANDLER_PANICKED`, `WIGWAG_ERR_UNANSWERED`, `WIGWAG_ERR_VIOLATION`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_loan_call(wigwag_loan *loan,
                     int64_t timeout_ns,
                     wigwag_reply **reply,
                     void **reply_data,
                     size_t *reply_len,
                     wigwag_error *error);

/**
 * Passes a loan to the server and returns at once. The reply is waited for later: by wigwag_pending_wait(), or by an
 * event loop with wigwag_client_fd() and wigwag_client_process().
 *
 * The loan is a loan no more, as with wigwag_loan_call().
 * `pending`: where the handle of the call goes; wigwag_pending_wait() or wigwag_pending_abandon() ends it.
 *
 * Fails with `WIGWAG_ERR_PEER_DIED`, `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_VIOLATION`, `WIGWAG_ERR_FORKED`: the
 * request was not sent.
 */
WIGWAG_API
int wigwag_loan_send(wigwag_loan *loan,
                     wigwag_pending **pending,
                     wigwag_error *error);

/**
 * Gives a loan back without sending it, or does nothing with NULL.
 */
WIGWAG_API int wigwag_loan_release(wigwag_loan *loan);

/**
 * Attaches a duplicate of a file descriptor to a request; yours stays yours.
 *
 * Fails with `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_loan_attach(wigwag_loan *loan,
                       int fd,
                       wigwag_error *error);

/**
 * Waits for the reply of a call for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether it is there.
 *
 * `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` with wigwag_error_maybe_executed(): it is not there yet,
 * the call goes on, and may be waited for again. Otherwise the pending is a pending no more.
 * `reply`, `reply_data`, `reply_len`, and the other errors: as wigwag_loan_call() has them.
 */
WIGWAG_API
int wigwag_pending_wait(wigwag_pending *pending,
                        int64_t timeout_ns,
                        wigwag_reply **reply,
                        void **reply_data,
                        size_t *reply_len,
                        wigwag_error *error);

/**
 * Gives a call up, or does nothing with NULL: the server learns of it, may execute it all the same, and nobody gets
 * the reply.
 */
WIGWAG_API
int wigwag_pending_abandon(wigwag_pending *pending);

/**
 * Remembers a pointer of yours with a call, for whoever finds the call by wigwag_client_process().
 */
WIGWAG_API int wigwag_pending_set_user(wigwag_pending *pending, void *user);

/**
 * The pointer that was remembered with a call, or NULL.
 */
WIGWAG_API void *wigwag_pending_user(const wigwag_pending *pending);

/**
 * Ends a reply, whose bytes are valid no more, or does nothing with NULL.
 */
WIGWAG_API int wigwag_reply_release(wigwag_reply *reply);

/**
 * Makes a reply the next request, of `len` bytes, without copying: what is in it stays where it is, unless the new
 * length moves it between a slot's line and its body (48 bytes).
 *
 * The reply is a reply no more, as with wigwag_loan_call(). `loan`, `data`: as wigwag_client_loan() has them.
 *
 * Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_reply_into_loan(wigwag_reply *reply,
                           size_t len,
                           wigwag_loan **loan,
                           void **data,
                           wigwag_error *error);

/**
 * Takes the file descriptors that came with a reply, once: they are yours to close.
 *
 * `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
 */
WIGWAG_API
int wigwag_reply_take_descriptors(wigwag_reply *reply,
                                  int *fds,
                                  size_t capacity,
                                  size_t *count,
                                  wigwag_error *error);

/**
 * Takes a name, and begins to accept sessions.
 *
 * `name`: becomes a socket in the user's runtime directory; a path that begins with "/", "./" or "../" is taken as it
 * is. `options`: NULL for all defaults. `server`: where the handle goes; wigwag_server_free() ends it.
 *
 * Fails with `WIGWAG_ERR_NAME_TAKEN` while another server has the name, `WIGWAG_ERR_INVALID_CONFIGURATION`,
 * `WIGWAG_ERR_IO`, and what is wrong with a name.
 */
WIGWAG_API
int wigwag_server_bind(const char *name,
                       const wigwag_listen_options *options,
                       wigwag_server **server,
                       wigwag_error *error);

/**
 * Ends a server: all its sessions are over, and the name is free. Does nothing with NULL. Answer first what you hold
 * of its requests; those that are answered later reach nobody.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API
int wigwag_server_free(wigwag_server *server);

/**
 * Serves on this thread until wigwag_stop_shutdown().
 *
 * `handler`: called for each request, with `user`. After a shutdown exactly what clients had passed until then is
 * served, before this returns; the server has ended then.
 *
 * Fails with `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`: no client can make it return.
 */
WIGWAG_API
int wigwag_server_serve(wigwag_server *server,
                        wigwag_handler handler,
                        void *user,
                        wigwag_error *error);

/**
 * As wigwag_server_serve(), on `threads` threads, of which this one is the first. The handler is called by several of
 * them at a time.
 *
 * Fails as that, and with `WIGWAG_ERR_INVALID_CONFIGURATION` for no threads.
 */
WIGWAG_API
int wigwag_server_serve_on(wigwag_server *server,
                           size_t threads,
                           wigwag_handler handler,
                           void *user,
                           wigwag_error *error);

/**
 * Waits for the next request for up to `timeout_ns` (`WIGWAG_FOREVER`, or 0 to look whether one is there), to be
 * answered here or by another thread, now or later.
 *
 * `request`: where its handle goes; wigwag_request_reply(), wigwag_request_fail() or wigwag_request_drop() ends it.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none;
 * `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, once everything that had been passed by then was given out;
 * `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_server_recv(wigwag_server *server,
                       int64_t timeout_ns,
                       wigwag_request **request,
                       wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this server, or a negative code. It is the
 * server's: do not close it, and do not read from it. From then on the server never spins for ever, because the thread
 * is the loop's.
 *
 * Once it is readable, call wigwag_server_process() until that finds nothing more. Call that once before the first
 * poll, too.
 */
WIGWAG_API
int wigwag_server_fd(wigwag_server *server,
                     wigwag_error *error);

/**
 * What an event loop does when the server's descriptor is readable. It never waits.
 *
 * `request`: where the handle of the next request goes, or NULL when none is there: from then on the descriptor
 * becomes readable when one is. So call it until it gives NULL.
 *
 * Fails with `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_server_process(wigwag_server *server,
                          wigwag_request **request,
                          wigwag_error *error);

/**
 * A handle by which other threads end this server; wigwag_stop_free() frees it.
 */
WIGWAG_API
int wigwag_server_stop(const wigwag_server *server,
                       wigwag_stop **stop,
                       wigwag_error *error);

/**
 * Where the server's socket is, valid until the server is freed; NULL of what is no server.
 */
WIGWAG_API const char *wigwag_server_path(const wigwag_server *server);

/**
 * What a server has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_server_statistics(const wigwag_server *server,
                             wigwag_server_stats *stats,
                             wigwag_error *error);

/**
 * Where the bytes of a request are, and how many: to be read and changed. They are valid until the request is
 * answered, dropped or resized, or its handler returns.
 */
WIGWAG_API
int wigwag_request_data(wigwag_request *request,
                        void **data,
                        size_t *len,
                        wigwag_error *error);

/**
 * The largest reply in bytes; 0 of what is no request.
 */
WIGWAG_API size_t wigwag_request_capacity(const wigwag_request *request);

/**
 * Makes the payload `len` bytes long; what is in it stays, up to the shorter length. What wigwag_request_data() gave
 * is not valid any more.
 *
 * Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`: nothing has changed then.
 */
WIGWAG_API
int wigwag_request_resize(wigwag_request *request,
                          size_t len,
                          wigwag_error *error);

/**
 * Replaces the payload by a copy of these bytes, which lie elsewhere.
 *
 * Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`: nothing has changed then.
 */
WIGWAG_API
int wigwag_request_set_reply(wigwag_request *request,
                             const void *data,
                             size_t len,
                             wigwag_error *error);

/**
 * Answers: the payload as it is now is the reply. The request is one no more.
 */
WIGWAG_API int wigwag_request_reply(wigwag_request *request, wigwag_error *error);

/**
 * Answers with an error: the client gets `WIGWAG_ERR_HANDLER_FAILED` with this text, cut at 1,024 bytes. The request
 * is one no more. In a handler it only notes the text, and the handler's return answers.
 */
WIGWAG_API
int wigwag_request_fail(wigwag_request *request,
                        const char *text,
                        wigwag_error *error);

/**
 * Drops a request unanswered, of which the client is told; does nothing with NULL.
 */
WIGWAG_API int wigwag_request_drop(wigwag_request *request);

/**
 * How many nanoseconds the client still waits: 0 if that is over, `WIGWAG_FOREVER` if it has set no time.
 */
WIGWAG_API
int64_t wigwag_request_time_left_ns(const wigwag_request *request);

/**
 * 1 if the client has given the call up, or is gone: nobody reads the reply. 0 if not.
 */
WIGWAG_API int wigwag_request_is_abandoned(const wigwag_request *request);

/**
 * Waits until the client has given the call up, or is gone, for up to `timeout_ns`: for a thread that watches while
 * others work on the bytes. Until it returns no other function takes this request.
 *
 * Fails with `WIGWAG_ERR_TIMED_OUT` if it has not.
 */
WIGWAG_API
int wigwag_request_wait_abandoned(const wigwag_request *request,
                                  int64_t timeout_ns,
                                  wigwag_error *error);

/**
 * Who sent it.
 */
WIGWAG_API
int wigwag_request_peer(const wigwag_request *request,
                        wigwag_peer *peer,
                        wigwag_error *error);

/**
 * Attaches a duplicate of a file descriptor to the reply; yours stays yours.
 *
 * Fails with `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_request_attach(wigwag_request *request,
                          int fd,
                          wigwag_error *error);

/**
 * Takes the file descriptors that came with a request, once: they are yours to close.
 *
 * `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
 */
WIGWAG_API
int wigwag_request_take_descriptors(wigwag_request *request,
                                    int *fds,
                                    size_t capacity,
                                    size_t *count,
                                    wigwag_error *error);

/**
 * Ends the service in good order: nobody connects any more, what clients had passed until now is still served, and
 * whoever serves returns, or gets `WIGWAG_ERR_SERVER_CLOSED`.
 */
WIGWAG_API
int wigwag_stop_shutdown(const wigwag_stop *stop);

/**
 * As wigwag_stop_shutdown(), for a planned restart: clients that follow restarts go to the next server of the name.
 */
WIGWAG_API
int wigwag_stop_hand_over(const wigwag_stop *stop);

/**
 * Frees the handle, or does nothing with NULL. Nothing ends by it.
 */
WIGWAG_API int wigwag_stop_free(wigwag_stop *stop);

/**
 * Connects to the receiver of a name, of this user.
 *
 * `sender`: where the handle goes; wigwag_sender_close() or wigwag_sender_free() ends it. The rest is as
 * wigwag_client_connect() has it.
 */
WIGWAG_API
int wigwag_sender_connect(const char *name,
                          const wigwag_connect_options *options,
                          wigwag_sender **sender,
                          wigwag_error *error);

/**
 * Another sender to the same queue with the same options: for another thread.
 */
WIGWAG_API
int wigwag_sender_clone(const wigwag_sender *sender,
                        wigwag_sender **clone,
                        wigwag_error *error);

/**
 * Waits until everything that was sent is acknowledged, as long as a receiver lives, and ends the sender.
 *
 * The handle is none any more, whatever comes of it, unless the code is `WIGWAG_ERR_INVALID_HANDLE`,
 * `WIGWAG_ERR_IN_USE` or `WIGWAG_ERR_NULL`. Fails as wigwag_sender_send(): what was not acknowledged is then received
 * if the receiver lives, and lost if it does not.
 */
WIGWAG_API
int wigwag_sender_close(wigwag_sender *sender,
                        wigwag_error *error);

/**
 * Ends a sender, or does nothing with NULL. It waits until everything is acknowledged within `options->linger_ns`, and
 * tells nobody what came of it. A message that was being written is not sent.
 */
WIGWAG_API
int wigwag_sender_free(wigwag_sender *sender);

/**
 * The longest message in bytes; 0 of what is no sender.
 */
WIGWAG_API size_t wigwag_sender_capacity(const wigwag_sender *sender);

/**
 * How many messages can be under way: sent and not acknowledged; 0 of what is no sender.
 */
WIGWAG_API size_t wigwag_sender_slots(const wigwag_sender *sender);

/**
 * Sends a copy of a message. While the queue is full it waits for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 not to
 * wait, neither for room nor for a receiver.
 *
 * Each error says that this message was not sent; what was sent before is kept. Fails with
 * `WIGWAG_ERR_CAPACITY_EXCEEDED`, `WIGWAG_ERR_FULL` (of 0), `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_NOT_RUNNING` when the
 * receiver is gone and no other took its place: the next call looks again; `WIGWAG_ERR_REFUSED`,
 * `WIGWAG_ERR_CONTRACT_MISMATCH` by its successor; `WIGWAG_ERR_VIOLATION`, for good; `WIGWAG_ERR_FORKED`,
 * `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_sender_send(wigwag_sender *sender,
                       const void *message,
                       size_t len,
                       int64_t timeout_ns,
                       wigwag_error *error);

/**
 * Sends copies of many messages, and wakes the receiver once for all of them. It waits for room as long as it takes.
 *
 * `sent`: how many were sent, also if this fails; NULL if that is not wanted. Fails as wigwag_sender_send().
 */
WIGWAG_API
int wigwag_sender_send_batch(wigwag_sender *sender,
                             const wigwag_bytes *messages,
                             size_t count,
                             size_t *sent,
                             wigwag_error *error);

/**
 * Borrows `len` bytes of the queue's own memory, to write a message where it will be read: no copy. While the queue is
 * full it waits for up to `timeout_ns`, as wigwag_sender_send() does.
 *
 * `data`: where the address of the bytes goes, which are what a former message left there, zero at first. They are
 * valid until wigwag_sender_commit() or wigwag_sender_discard(): one of these must follow, and until then nothing else
 * can be done with this sender but to free it.
 *
 * Fails as wigwag_sender_send().
 */
WIGWAG_API
int wigwag_sender_loan(wigwag_sender *sender,
                       size_t len,
                       int64_t timeout_ns,
                       void **data,
                       wigwag_error *error);

/**
 * Sends the message that was written into what wigwag_sender_loan() lent.
 *
 * Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent, and as wigwag_sender_send() if descriptors are
 * attached.
 */
WIGWAG_API
int wigwag_sender_commit(wigwag_sender *sender,
                         wigwag_error *error);

/**
 * Gives back what wigwag_sender_loan() lent, and sends nothing.
 */
WIGWAG_API int wigwag_sender_discard(wigwag_sender *sender);

/**
 * Attaches a duplicate of a file descriptor to the message that is being written; yours stays yours.
 *
 * Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if none is, `WIGWAG_ERR_NOT_AGREED` unless both sides have asked for
 * descriptors, `WIGWAG_ERR_FULL`, `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_sender_attach(wigwag_sender *sender,
                         int fd,
                         wigwag_error *error);

/**
 * Waits until everything that was sent is acknowledged, for up to `timeout_ns`.
 *
 * Fails with `WIGWAG_ERR_TIMED_OUT`, which says how many are not, and as wigwag_sender_send(). They are kept all the
 * same.
 */
WIGWAG_API
int wigwag_sender_flush(wigwag_sender *sender,
                        int64_t timeout_ns,
                        wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this sender, or a negative code. It is the
 * sender's: do not close it, and do not read from it. It stays the same for as long as the sender lives.
 */
WIGWAG_API
int wigwag_sender_fd(wigwag_sender *sender,
                     wigwag_error *error);

/**
 * What an event loop does when the sender's descriptor is readable, and before it waits for that. It never waits.
 *
 * `has_room`: where 1 goes if a message can be sent; 0 if the queue is full, or no receiver is there: from then on the
 * descriptor becomes readable when it is worth to call this again, also for the next receiver. `unacknowledged`: where
 * the number of messages goes that are not acknowledged; NULL if it is not wanted. If it is and there are some, and a
 * message can be sent, the descriptor becomes readable when the newest is acknowledged.
 *
 * Fails with `WIGWAG_ERR_NOT_RUNNING` once no other receiver has come within `options->server_timeout_ns`: the next
 * call looks again; `WIGWAG_ERR_REFUSED`, `WIGWAG_ERR_CONTRACT_MISMATCH` by the next receiver; `WIGWAG_ERR_FORKED`,
 * `WIGWAG_ERR_IO`, `WIGWAG_ERR_VIOLATION`.
 */
WIGWAG_API
int wigwag_sender_process(wigwag_sender *sender,
                          int *has_room,
                          size_t *unacknowledged,
                          wigwag_error *error);

/**
 * What a sender has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_sender_statistics(const wigwag_sender *sender,
                             wigwag_sender_stats *stats,
                             wigwag_error *error);

/**
 * Takes a name, and begins to accept senders.
 *
 * `receiver`: where the handle goes; wigwag_receiver_free() ends it. The rest is as wigwag_server_bind() has it.
 *
 * With `options->shared` others may have the name, too, and it fails with `WIGWAG_ERR_NAME_TAKEN` when 64 have it.
 * With `options->kept_by` it fails with `WIGWAG_ERR_NOT_RUNNING` while that keeper does not run.
 */
WIGWAG_API
int wigwag_receiver_bind(const char *name,
                         const wigwag_listen_options *options,
                         wigwag_receiver **receiver,
                         wigwag_error *error);

/**
 * Ends a receiver, or does nothing with NULL: the name is free, and what was not received stays with its senders. To
 * have everything first, shut it down (wigwag_receiver_stop()) and receive until `WIGWAG_ERR_SERVER_CLOSED`.
 */
WIGWAG_API
int wigwag_receiver_free(wigwag_receiver *receiver);

/**
 * Waits for the next message for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether one is there.
 *
 * `message`: where its handle goes; wigwag_message_ack() or wigwag_message_nack() ends it. `data`, `len`: where its
 * bytes are and how many; NULL if they are not wanted. They are valid until the message is ended, and not to be
 * written to.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none; `WIGWAG_ERR_SERVER_CLOSED`
 * after a shutdown, once everything was received; `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_receiver_recv(wigwag_receiver *receiver,
                         int64_t timeout_ns,
                         wigwag_message **message,
                         const void **data,
                         size_t *len,
                         wigwag_error *error);

/**
 * Waits for messages as wigwag_receiver_recv() does, and takes as many as are there, up to `most`.
 *
 * `messages`: room for `most` handles, at least 1. `count`: where their number goes.
 */
WIGWAG_API
int wigwag_receiver_recv_batch(wigwag_receiver *receiver,
                               int64_t timeout_ns,
                               wigwag_message **messages,
                               size_t most,
                               size_t *count,
                               wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this receiver, or a negative code. It is the
 * receiver's: do not close it, and do not read from it.
 *
 * Once it is readable, call wigwag_receiver_process() until that finds nothing more. Call that once before the first
 * poll, too.
 */
WIGWAG_API
int wigwag_receiver_fd(wigwag_receiver *receiver,
                       wigwag_error *error);

/**
 * What an event loop does when the receiver's descriptor is readable. It never waits.
 *
 * `message`, `data`, `len`: as wigwag_receiver_recv() has them; the message is NULL when none is there: from then on
 * the descriptor becomes readable when one is. So call it until it gives NULL.
 *
 * Fails with `WIGWAG_ERR_SERVER_CLOSED` after a shutdown, `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_receiver_process(wigwag_receiver *receiver,
                            wigwag_message **message,
                            const void **data,
                            size_t *len,
                            wigwag_error *error);

/**
 * A handle by which other threads end this receiver; wigwag_stop_free() frees it.
 */
WIGWAG_API
int wigwag_receiver_stop(const wigwag_receiver *receiver,
                         wigwag_stop **stop,
                         wigwag_error *error);

/**
 * Where the receiver's socket is, valid until the receiver is freed; NULL of what is no receiver.
 */
WIGWAG_API const char *wigwag_receiver_path(const wigwag_receiver *receiver);

/**
 * What a receiver has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_receiver_statistics(const wigwag_receiver *receiver,
                               wigwag_receiver_stats *stats,
                               wigwag_error *error);

/**
 * Where the bytes of a message are, and how many, as wigwag_receiver_recv() has given them.
 */
WIGWAG_API
int wigwag_message_data(const wigwag_message *message,
                        const void **data,
                        size_t *len,
                        wigwag_error *error);

/**
 * Acknowledges a message: its memory is the sender's again. Does nothing with NULL.
 */
WIGWAG_API int wigwag_message_ack(wigwag_message *message);

/**
 * Gives a message back: it is delivered again, here or by the next receiver, and marked. Does nothing with NULL.
 */
WIGWAG_API
int wigwag_message_nack(wigwag_message *message);

/**
 * 1 if a receiver may have had the message before, 0 if not.
 */
WIGWAG_API int wigwag_message_is_redelivered(const wigwag_message *message);

/**
 * Who sent it.
 */
WIGWAG_API
int wigwag_message_peer(const wigwag_message *message,
                        wigwag_peer *peer,
                        wigwag_error *error);

/**
 * Takes duplicates of the file descriptors that came with a message, once: they are yours to close.
 *
 * `fds`: room for `capacity` of them, at least `WIGWAG_DESCRIPTORS_MAX`. `count`: where their number goes.
 */
WIGWAG_API
int wigwag_message_take_descriptors(wigwag_message *message,
                                    int *fds,
                                    size_t capacity,
                                    size_t *count,
                                    wigwag_error *error);

/**
 * Takes the name of a keeper, which is beside that of a queue of the same name, and starts to keep.
 *
 * `name`: what receivers have as `kept_by`. `options`: NULL for all defaults. `keeper`: where the handle goes;
 * wigwag_keeper_free() ends it.
 *
 * Fails with `WIGWAG_ERR_NAME_TAKEN` while another keeper has the name, `WIGWAG_ERR_IO`, and what is wrong with a
 * name.
 */
WIGWAG_API
int wigwag_keeper_start(const char *name,
                        const wigwag_keeper_options *options,
                        wigwag_keeper **keeper,
                        wigwag_error *error);

/**
 * Ends a keeper, or does nothing with NULL: its name is free, and what it has of the dead is lost.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API int wigwag_keeper_free(wigwag_keeper *keeper);

/**
 * Where the keeper's socket is, valid until the keeper is freed; NULL of what is no keeper.
 */
WIGWAG_API const char *wigwag_keeper_path(const wigwag_keeper *keeper);

/**
 * What a keeper has, and has done.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_keeper_statistics(const wigwag_keeper *keeper,
                             wigwag_keeper_stats *stats,
                             wigwag_error *error);

/**
 * Connects to a listener of this user. It need not have accepted yet.
 *
 * `stream`: where the handle goes; wigwag_stream_free() ends it. The rest is as wigwag_client_connect() has it.
 */
WIGWAG_API
int wigwag_stream_connect(const char *name,
                          const wigwag_connect_options *options,
                          wigwag_stream **stream,
                          wigwag_error *error);

/**
 * Ends a stream, or does nothing with NULL. The other end reads what was written, and then its end.
 */
WIGWAG_API int wigwag_stream_free(wigwag_stream *stream);

/**
 * Reads up to `len` bytes into `into`; waits until there is one.
 *
 * `got`: where the number of bytes goes; 0 is the end: the other end has shut its writing, or was ended, and all that
 * it wrote was read.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, `WIGWAG_ERR_TIMED_OUT`; after the bytes that were written
 * before with `WIGWAG_ERR_PEER_DIED` or `WIGWAG_ERR_ABORTED`, which are no good ends; `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_stream_read(wigwag_stream *stream,
                       void *into,
                       size_t len,
                       size_t *got,
                       wigwag_error *error);

/**
 * Writes up to `len` bytes of `from`; waits until there is room for one.
 *
 * `put`: where the number of bytes goes that were written.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, `WIGWAG_ERR_TIMED_OUT`; `WIGWAG_ERR_SERVER_CLOSED`,
 * `WIGWAG_ERR_PEER_DIED` or `WIGWAG_ERR_ABORTED` once the other end does not read any more, which is noticed when
 * there is no room, and otherwise within 64 writes; `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_stream_write(wigwag_stream *stream,
                        const void *from,
                        size_t len,
                        size_t *put,
                        wigwag_error *error);

/**
 * Writes all of `len` bytes. Fails as wigwag_stream_write(); it is not said then how many were written.
 *
 * In non-blocking mode it fails with `WIGWAG_ERR_INVALID_ARGUMENT`.
 */
WIGWAG_API
int wigwag_stream_write_all(wigwag_stream *stream,
                            const void *from,
                            size_t len,
                            wigwag_error *error);

/**
 * Reads exactly `len` bytes. Fails as wigwag_stream_read(), and with `WIGWAG_ERR_IO` if the stream ends before.
 *
 * In non-blocking mode it fails with `WIGWAG_ERR_INVALID_ARGUMENT`.
 */
WIGWAG_API
int wigwag_stream_read_exact(wigwag_stream *stream,
                             void *into,
                             size_t len,
                             wigwag_error *error);

/**
 * Lends the bytes that there are to be read, where they lie; waits until there is one.
 *
 * `data`, `len`: where they are and how many; 0 is the end. They are valid until wigwag_stream_consume().
 *
 * Fails as wigwag_stream_read().
 */
WIGWAG_API
int wigwag_stream_peek(wigwag_stream *stream,
                       const void **data,
                       size_t *len,
                       wigwag_error *error);

/**
 * The first `len` bytes of what wigwag_stream_peek() lent are read, and their room is the other end's; all of them, if
 * there are fewer.
 */
WIGWAG_API
int wigwag_stream_consume(wigwag_stream *stream,
                          size_t len,
                          wigwag_error *error);

/**
 * Lends the room that there is for bytes to be written, where they will lie; waits until there is some.
 *
 * `data`, `len`: where it is and how much. It is valid until wigwag_stream_commit().
 *
 * Fails as wigwag_stream_write().
 */
WIGWAG_API
int wigwag_stream_reserve(wigwag_stream *stream,
                          void **data,
                          size_t *len,
                          wigwag_error *error);

/**
 * Hands over the first `len` bytes of what wigwag_stream_reserve() lent.
 *
 * Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if less is lent, or something was written in between.
 */
WIGWAG_API int wigwag_stream_commit(wigwag_stream *stream, size_t len, wigwag_error *error);

/**
 * Shuts one direction or both, any number of times: `how` is `WIGWAG_SHUTDOWN_READ`, `_WRITE` or `_BOTH`. It never
 * waits. Threads of this end that wait return.
 */
WIGWAG_API
int wigwag_stream_shutdown(wigwag_stream *stream,
                           int how,
                           wigwag_error *error);

/**
 * Gives the stream up in both directions: the other end gets `WIGWAG_ERR_ABORTED` with this reason, after what was
 * written before. A direction that was shut keeps its good end.
 */
WIGWAG_API
int wigwag_stream_abort(wigwag_stream *stream,
                        const char *reason,
                        wigwag_error *error);

/**
 * How long a read and a write may wait, in nanoseconds; 0 for as long as it takes.
 */
WIGWAG_API
int wigwag_stream_set_timeouts(wigwag_stream *stream,
                               int64_t read_ns,
                               int64_t write_ns,
                               wigwag_error *error);

/**
 * Whether reads and writes return `WIGWAG_ERR_WOULD_BLOCK` instead of waiting: 1 or 0.
 *
 * After that code the stream's descriptor becomes readable once it is worth to try again, in whichever direction that
 * was: poll it for reading, then try everything that would have blocked, until it does again.
 */
WIGWAG_API
int wigwag_stream_set_nonblocking(wigwag_stream *stream,
                                  int is_nonblocking,
                                  wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this stream, for both directions, or a negative
 * code. It is the stream's: do not close it, and do not read from it. See wigwag_stream_set_nonblocking().
 */
WIGWAG_API
int wigwag_stream_fd(wigwag_stream *stream,
                     wigwag_error *error);

/**
 * Who is at the other end.
 */
WIGWAG_API
int wigwag_stream_peer(const wigwag_stream *stream,
                       wigwag_peer *peer,
                       wigwag_error *error);

/**
 * Takes a name, and begins to accept streams. A thread of its own shakes hands, so connecting does not wait for
 * wigwag_listener_accept().
 *
 * `listener`: where the handle goes; wigwag_listener_free() ends it. The rest is as wigwag_server_bind() has it.
 */
WIGWAG_API
int wigwag_listener_bind(const char *name,
                         const wigwag_listen_options *options,
                         wigwag_listener **listener,
                         wigwag_error *error);

/**
 * Ends a listener, or does nothing with NULL: the name is free, and those who wait to be accepted are turned away.
 * What was accepted lives on.
 */
WIGWAG_API
int wigwag_listener_free(wigwag_listener *listener);

/**
 * Waits for the next stream.
 *
 * `stream`: where its handle goes; wigwag_stream_free() ends it.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` in non-blocking mode, when nobody is there; `WIGWAG_ERR_SERVER_CLOSED` after a
 * shutdown, once nobody is left; `WIGWAG_ERR_IO`, `WIGWAG_ERR_FORKED`.
 */
WIGWAG_API
int wigwag_listener_accept(wigwag_listener *listener,
                           wigwag_stream **stream,
                           wigwag_error *error);

/**
 * Whether wigwag_listener_accept() returns `WIGWAG_ERR_WOULD_BLOCK` instead of waiting: 1 or 0.
 */
WIGWAG_API
int wigwag_listener_set_nonblocking(wigwag_listener *listener,
                                    int is_nonblocking,
                                    wigwag_error *error);

/**
 * The descriptor of a listener, or a negative code: it is readable while somebody waits to be accepted. It is the
 * listener's: do not close it, and do not read from it.
 */
WIGWAG_API
int wigwag_listener_fd(wigwag_listener *listener,
                       wigwag_error *error);

/**
 * A handle by which other threads end this listener; wigwag_stop_free() frees it.
 */
WIGWAG_API
int wigwag_listener_stop(const wigwag_listener *listener,
                         wigwag_stop **stop,
                         wigwag_error *error);

/**
 * Where the listener's socket is, valid until the listener is freed; NULL of what is no listener.
 */
WIGWAG_API const char *wigwag_listener_path(const wigwag_listener *listener);

/**
 * Takes a name, and begins to let subscribers in.
 *
 * `publisher`: where the handle goes; wigwag_publisher_free() ends it. The rest is as wigwag_server_bind() has it. Of
 * the options `history`, `capacity`, `slots`, `max_holds`, `overrun` and `patience_ns` say how much is kept, for whom,
 * and what is done for who is slow.
 *
 * Fails as wigwag_server_bind(), and with `WIGWAG_ERR_INVALID_CONFIGURATION` if what is to be kept is more memory than
 * `max_bytes_total` allows.
 */
WIGWAG_API
int wigwag_publisher_bind(const char *name,
                          const wigwag_listen_options *options,
                          wigwag_publisher **publisher,
                          wigwag_error *error);

/**
 * Ends a broadcast in good order, or does nothing with NULL: the name is free when this returns, and subscribers read
 * what they have not read yet and get `WIGWAG_ERR_ENDED`. A message that was being written is not published.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API
int wigwag_publisher_free(wigwag_publisher *publisher);

/**
 * Publishes a copy of a message. With `WIGWAG_OVERRUN_WAIT` it waits until the message has room, for up to
 * `timeout_ns`: `WIGWAG_FOREVER` is as long as the publisher's patience lasts, 0 does not wait. Without it none waits.
 *
 * `sequence`: where the message's number goes; NULL if that is not wanted. The first message has 1, and each has one
 * more than the one before.
 *
 * A subscriber that dies makes room within milliseconds, and is no error. Fails with `WIGWAG_ERR_CAPACITY_EXCEEDED`;
 * `WIGWAG_ERR_FULL` (of 0, or of a patience of 0) and `WIGWAG_ERR_TIMED_OUT` if a subscriber has not made room;
 * `WIGWAG_ERR_SERVER_CLOSED` after wigwag_stop_shutdown(), or if another publisher has taken the name;
 * `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`. Nothing is published then.
 */
WIGWAG_API
int wigwag_publisher_send(wigwag_publisher *publisher,
                          const void *message,
                          size_t len,
                          int64_t timeout_ns,
                          uint64_t *sequence,
                          wigwag_error *error);

/**
 * Borrows `len` bytes, to write a message where all subscribers will read it: no copy. One of up to 48 bytes is copied
 * once more when it is published. It waits for room as wigwag_publisher_send() does.
 *
 * `data`: where the address of the bytes goes, aligned to 16. What lies there is anything, such as parts of earlier
 * messages: write all of it. They are valid until wigwag_publisher_commit() or wigwag_publisher_discard(): one of
 * these must follow, and until then nothing else can be done with this publisher but to free it.
 *
 * Fails as wigwag_publisher_send().
 */
WIGWAG_API
int wigwag_publisher_loan(wigwag_publisher *publisher,
                          size_t len,
                          int64_t timeout_ns,
                          void **data,
                          wigwag_error *error);

/**
 * Publishes the message that was written into what wigwag_publisher_loan() lent: from here on every subscriber may
 * read it, whatever happens to this process. It does not wait.
 *
 * `sequence`: as wigwag_publisher_send() has it. Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent;
 * `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`: the loan is over then, too, and nothing is published.
 */
WIGWAG_API
int wigwag_publisher_commit(wigwag_publisher *publisher,
                            uint64_t *sequence,
                            wigwag_error *error);

/**
 * Gives back what wigwag_publisher_loan() lent, and publishes nothing.
 *
 * Fails with `WIGWAG_ERR_INVALID_ARGUMENT` if nothing is lent.
 */
WIGWAG_API int wigwag_publisher_discard(wigwag_publisher *publisher);

/**
 * Waits until at least `count` subscribers are there, for up to `timeout_ns`.
 *
 * Fails with `WIGWAG_ERR_TIMED_OUT`, which says how many there are; `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`,
 * `WIGWAG_ERR_IO`. Those that die no longer count once the kernel says so.
 */
WIGWAG_API
int wigwag_publisher_wait_for_subscribers(wigwag_publisher *publisher,
                                          size_t count,
                                          int64_t timeout_ns,
                                          wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this publisher, or a negative code. It is the
 * publisher's: do not close it, and do not read from it. It stays the same for as long as the publisher lives.
 *
 * Once it is readable, call wigwag_publisher_process(). Call that once before the first poll, too.
 */
WIGWAG_API
int wigwag_publisher_fd(wigwag_publisher *publisher,
                        wigwag_error *error);

/**
 * What an event loop does when the publisher's descriptor is readable. It never waits.
 *
 * `has_room`: where 1 goes if a message has room, which without `WIGWAG_OVERRUN_WAIT` each has; 0 if a subscriber has
 * to read first: then the descriptor becomes readable when one has. `subscribers`: where their number goes; NULL if it
 * is not wanted. The descriptor becomes readable when one comes or goes.
 *
 * Fails with `WIGWAG_ERR_SERVER_CLOSED`, `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_publisher_process(wigwag_publisher *publisher,
                             int *has_room,
                             size_t *subscribers,
                             wigwag_error *error);

/**
 * A handle by which other threads end this publisher; wigwag_stop_free() frees it. After a shutdown the name is free,
 * nobody subscribes any more, and each call of the publisher, also one that waits, gives `WIGWAG_ERR_SERVER_CLOSED`.
 * Subscribers are told by wigwag_publisher_free().
 */
WIGWAG_API
int wigwag_publisher_stop(const wigwag_publisher *publisher,
                          wigwag_stop **stop,
                          wigwag_error *error);

/**
 * Where the publisher's socket is, valid until the publisher is freed; NULL of what is no publisher.
 */
WIGWAG_API
const char *wigwag_publisher_path(const wigwag_publisher *publisher);

/**
 * What a publisher has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_publisher_statistics(const wigwag_publisher *publisher,
                                wigwag_publisher_stats *stats,
                                wigwag_error *error);

/**
 * Visits those who listen just now; none, in a child after fork(). The publisher must not be used meanwhile.
 */
WIGWAG_API
int wigwag_publisher_subscribers(const wigwag_publisher *publisher,
                                 wigwag_subscriber_visitor visitor,
                                 void *user,
                                 wigwag_error *error);

/**
 * Connects to a publisher of this user. The first message is the next one that is published, or what `options->start`
 * says.
 *
 * `subscriber`: where the handle goes; wigwag_subscriber_free() ends it. The rest is as wigwag_client_connect() has
 * it.
 */
WIGWAG_API
int wigwag_subscriber_connect(const char *name,
                              const wigwag_connect_options *options,
                              wigwag_subscriber **subscriber,
                              wigwag_error *error);

/**
 * Ends a subscriber, or does nothing with NULL. Samples of it stay what they are until they are released.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API
int wigwag_subscriber_free(wigwag_subscriber *subscriber);

/**
 * Takes the next message, in place, and waits for it for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 to look whether
 * one is there. Who only looks learns of the publisher's end within 256 calls.
 *
 * `sample`: where its handle goes; wigwag_sample_release() ends it. `data`, `len`: where its bytes are, aligned to 16,
 * and how many; NULL if they are not wanted. They are valid until the sample is released, and not to be written to:
 * the memory is mapped to be read only.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0) and `WIGWAG_ERR_TIMED_OUT` if there is none; `WIGWAG_ERR_ENDED` when the
 * publisher has ended the broadcast and all is read, `WIGWAG_ERR_PEER_DIED` when its process is gone and all is read
 * that it had published: with `reconnect_ns` it waits for the next publisher instead, and fails with
 * `WIGWAG_ERR_NOT_RUNNING` when none came within that. `WIGWAG_ERR_REFUSED`: this subscriber was cut off, with the
 * reason. `WIGWAG_ERR_FULL`: it holds as many samples as it may; release one, or copy: the message is not lost.
 * `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`; `WIGWAG_ERR_VIOLATION` of a publisher of another user.
 */
WIGWAG_API
int wigwag_subscriber_recv(wigwag_subscriber *subscriber,
                           int64_t timeout_ns,
                           wigwag_sample **sample,
                           const void **data,
                           size_t *len,
                           wigwag_error *error);

/**
 * Takes the next message as wigwag_subscriber_recv() does, and copies it: nothing is to be released.
 *
 * `bytes`, `capacity`: room for it. `len`: where its length goes, also if it did not fit. `receipt`: a struct whose
 * `size` is set, and the rest of which is filled; NULL if it is not wanted.
 *
 * Fails as wigwag_subscriber_recv(), but for `WIGWAG_ERR_FULL`; and with `WIGWAG_ERR_CAPACITY_EXCEEDED` if the message
 * does not fit: it is not lost, and is the next one. wigwag_subscriber_capacity() says how long it can be.
 */
WIGWAG_API
int wigwag_subscriber_recv_copied(wigwag_subscriber *subscriber,
                                  int64_t timeout_ns,
                                  void *bytes,
                                  size_t capacity,
                                  size_t *len,
                                  wigwag_receipt *receipt,
                                  wigwag_error *error);

/**
 * The descriptor that an event loop polls for reading on behalf of this subscriber, or a negative code. It is the
 * subscriber's: do not close it, and do not read from it. It stays the same for as long as the subscriber lives.
 *
 * Once it is readable, call wigwag_subscriber_process() until that finds nothing more. Call that once before the first
 * poll, too.
 */
WIGWAG_API
int wigwag_subscriber_fd(wigwag_subscriber *subscriber,
                         wigwag_error *error);

/**
 * What an event loop does when the subscriber's descriptor is readable. It never waits.
 *
 * `sample`, `data`, `len`: as wigwag_subscriber_recv() has them; the sample is NULL when none is there: from then on
 * the descriptor becomes readable when one is, or when the publisher ends or dies. So call it until it gives NULL.
 *
 * Fails as wigwag_subscriber_recv(). With `reconnect_ns` it gives NULL while no next publisher is there, and no
 * descriptor tells of that one: call this by a timer then.
 */
WIGWAG_API
int wigwag_subscriber_process(wigwag_subscriber *subscriber,
                              wigwag_sample **sample,
                              const void **data,
                              size_t *len,
                              wigwag_error *error);

/**
 * How many messages were published and not taken yet; 0 of what is no subscriber.
 */
WIGWAG_API uint64_t wigwag_subscriber_lag(const wigwag_subscriber *subscriber);

/**
 * The longest message in bytes; 0 of what is no subscriber. Another publisher may have another one.
 */
WIGWAG_API size_t wigwag_subscriber_capacity(const wigwag_subscriber *subscriber);

/**
 * How many messages the publisher keeps; 0 of what is no subscriber.
 */
WIGWAG_API size_t wigwag_subscriber_history(const wigwag_subscriber *subscriber);

/**
 * Who publishes.
 */
WIGWAG_API
int wigwag_subscriber_peer(const wigwag_subscriber *subscriber,
                           wigwag_peer *peer,
                           wigwag_error *error);

/**
 * What a subscriber has counted.
 *
 * `stats`: a struct whose `size` is set; the rest is filled.
 */
WIGWAG_API
int wigwag_subscriber_statistics(const wigwag_subscriber *subscriber,
                                 wigwag_subscriber_stats *stats,
                                 wigwag_error *error);

/**
 * Where the bytes of a sample are, and how many, as wigwag_subscriber_recv() has given them.
 */
WIGWAG_API
int wigwag_sample_data(const wigwag_sample *sample,
                       const void **data,
                       size_t *len,
                       wigwag_error *error);

/**
 * The number of a sample: a publisher's first message has 1, and each has one more than the one before; 0 of what is
 * no sample.
 */
WIGWAG_API
uint64_t wigwag_sample_sequence(const wigwag_sample *sample);

/**
 * How many messages the subscriber has lost between the one that it took before and this one. Of the first one of
 * another publisher: how many that one had published and let go of before.
 */
WIGWAG_API
uint64_t wigwag_sample_lost_before(const wigwag_sample *sample);

/**
 * 1 if it is the first one of another publisher than the one before: of a subscriber with `reconnect_ns`. 0 if not.
 */
WIGWAG_API
int wigwag_sample_is_of_new_publisher(const wigwag_sample *sample);

/**
 * 1 if it is read where the publisher wrote it, 0 if it is a copy.
 */
WIGWAG_API int wigwag_sample_is_in_place(const wigwag_sample *sample);

/**
 * Lets go of a sample: its memory is the publisher's again. Does nothing with NULL.
 *
 * Fails with `WIGWAG_ERR_INVALID_HANDLE`, `WIGWAG_ERR_IN_USE`.
 */
WIGWAG_API int wigwag_sample_release(wigwag_sample *sample);

/**
 * Opens a semaphore, or makes it.
 *
 * `permits`: how many there are, 1 to 4096; all who open it say the same. `shared_with_children`: 1 if permits of this
 * process stay taken, when it is killed, for as long as programs live that it has started; else 0.
 * `semaphore`: where the handle goes; wigwag_semaphore_free() frees it.
 *
 * Fails with `WIGWAG_ERR_INVALID_CONFIGURATION`, `WIGWAG_ERR_CONTRACT_MISMATCH` if it has another number of permits,
 * `WIGWAG_ERR_NAME_LOST`, `WIGWAG_ERR_IO`, and what is wrong with a name.
 */
WIGWAG_API
int wigwag_semaphore_open(const char *name,
                          size_t permits,
                          int shared_with_children,
                          wigwag_semaphore **semaphore,
                          wigwag_error *error);

/**
 * Frees a semaphore, or does nothing with NULL. Permits stay what they are.
 */
WIGWAG_API int wigwag_semaphore_free(wigwag_semaphore *semaphore);

/**
 * Acquires `permits` permits together; waits for up to `timeout_ns`: `WIGWAG_FOREVER`, or 0 not to wait.
 *
 * `permit`: where the handle goes; wigwag_permit_release() gives them back.
 *
 * Fails with `WIGWAG_ERR_WOULD_BLOCK` (of 0), `WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_INVALID_CONFIGURATION` for none or
 * more than there are, `WIGWAG_ERR_NAME_LOST`, `WIGWAG_ERR_FORKED`, `WIGWAG_ERR_IO`.
 */
WIGWAG_API
int wigwag_semaphore_acquire(wigwag_semaphore *semaphore,
                             size_t permits,
                             int64_t timeout_ns,
                             wigwag_permit **permit,
                             wigwag_error *error);

/**
 * How many permits are free at this moment; 0 of what is no semaphore.
 */
WIGWAG_API size_t wigwag_semaphore_available(const wigwag_semaphore *semaphore);

/**
 * Whether the name still leads to this semaphore: `WIGWAG_OK`, or `WIGWAG_ERR_NAME_LOST` if another program has
 * removed or replaced its file.
 */
WIGWAG_API
int wigwag_semaphore_check_name(const wigwag_semaphore *semaphore,
                                wigwag_error *error);

/**
 * Where the semaphore's file is, valid until the semaphore is freed; NULL of what is no semaphore.
 */
WIGWAG_API const char *wigwag_semaphore_path(const wigwag_semaphore *semaphore);

/**
 * How many of these permits were held by a process that died: what they protect may be half changed.
 */
WIGWAG_API
size_t wigwag_permit_recovered(const wigwag_permit *permit);

/**
 * Gives permits back, or does nothing with NULL.
 */
WIGWAG_API int wigwag_permit_release(wigwag_permit *permit);

/**
 * What a service of this user does at this moment.
 *
 * `name`: as it was bound. `service`: a struct whose `size` is set; the rest is filled.
 *
 * Fails with `WIGWAG_ERR_NOT_RUNNING`, `WIGWAG_ERR_IO` if it cannot be looked at, and what is wrong with a name.
 */
WIGWAG_API
int wigwag_inspect(const char *name,
                   wigwag_service *service,
                   wigwag_error *error);

/**
 * Visits all services of this user that run: found by their processes and not by their names, so that one is seen
 * whose name was removed. It takes some milliseconds.
 */
WIGWAG_API
int wigwag_list(wigwag_visitor visitor,
                void *user,
                wigwag_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WIGWAG_H */
