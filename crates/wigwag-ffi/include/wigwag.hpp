/*
 * Wigwag for C++17: wigwag.h with owners that end what they own, views instead of pointer and length, and results that
 * hold a value or an error. No exceptions are needed, and none are thrown; no part of it is compiled into a library.
 *
 * Owners are move-only and may be empty (moved from). A function that consumes its object is called on an rvalue:
 *
 *     auto client = wigwag::client::connect("invert");
 *     if (!client) return complain(client.error());
 *     auto loan = client->loan(4096);
 *     if (!loan) return complain(loan.error());
 *     std::fill(loan->bytes().begin(), loan->bytes().end(), std::uint8_t{1});
 *     auto reply = std::move(*loan).call();        // the same memory, changed
 *
 * What wigwag.h says of each function goes here, too: threads, processes, event loops, and until when bytes are valid.
 */
#ifndef WIGWAG_HPP
#define WIGWAG_HPP

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "wigwag.h"

namespace wigwag {

/** How long a call may wait: `forever`, or `std::chrono::nanoseconds{0}` not to. */
using duration = std::chrono::nanoseconds;

/** As long as it takes. */
inline constexpr duration forever{WIGWAG_FOREVER};

/** Bytes that somebody else has: where they are and how many. As std::span of C++20. */
template <class Byte>
class basic_view {
public:
    constexpr basic_view() noexcept = default;
    constexpr basic_view(Byte *data, std::size_t size) noexcept : data_(data), size_(size) {}

    /** A view to change is a view to read. */
    template <class Other, class = std::enable_if_t<std::is_same_v<const Other, Byte>>>
    constexpr basic_view(basic_view<Other> other) noexcept : data_(other.data()), size_(other.size()) {}

    /** What a container of bytes has, such as std::vector<std::uint8_t> or std::array. */
    template <class Container, class = std::enable_if_t<std::is_convertible_v<
                                   decltype(std::declval<Container &>().data()), Byte *>>>
    constexpr basic_view(Container &container) noexcept : data_(container.data()), size_(container.size()) {}

    constexpr Byte *data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr Byte *begin() const noexcept { return data_; }
    constexpr Byte *end() const noexcept { return data_ + size_; }
    constexpr Byte &operator[](std::size_t at) const noexcept { return data_[at]; }

    /** The first `count`, or all if there are fewer. */
    constexpr basic_view first(std::size_t count) const noexcept { return {data_, count < size_ ? count : size_}; }

    /** As text. */
    std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_), size_}; }

    /** A copy of the plain type that lies at the beginning; nothing if there are too few bytes. */
    template <class T>
    std::optional<T> get() const noexcept
    {
        static_assert(std::is_trivially_copyable_v<T>, "only plain types lie in bytes");
        if (size_ < sizeof(T))
            return std::nullopt;
        T value;
        std::memcpy(&value, data_, sizeof(T));
        return value;
    }

    /** Writes a plain type to the beginning; false if there is no room. */
    template <class T>
    bool put(const T &value) const noexcept
    {
        static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<Byte>, "only plain types lie in bytes");
        if (size_ < sizeof(T))
            return false;
        std::memcpy(data_, &value, sizeof(T));
        return true;
    }

private:
    Byte *data_ = nullptr;
    std::size_t size_ = 0;
};

/** Bytes to change. */
using view = basic_view<std::uint8_t>;
/** Bytes to read. */
using const_view = basic_view<const std::uint8_t>;

/** A text as bytes. */
inline const_view bytes_of(std::string_view text) noexcept
{
    return {reinterpret_cast<const std::uint8_t *>(text.data()), text.size()};
}

/** Why something failed: a wigwag_code, a sentence, and whether a request may have been executed. */
class error {
public:
    error() = default;
    error(int code, std::string text, bool maybe_executed = false, int os_error = 0)
        : code_(code), maybe_executed_(maybe_executed), os_error_(os_error), text_(std::move(text))
    {
    }

    /** What a handler returns to fail a request: the client gets the text. */
    static error failed(std::string text) { return {WIGWAG_ERR_HANDLER_FAILED, std::move(text)}; }

    int code() const noexcept { return code_; }
    const std::string &text() const noexcept { return text_; }
    bool maybe_executed() const noexcept { return maybe_executed_; }
    int os_error() const noexcept { return os_error_; }
    const char *name() const noexcept { return wigwag_code_name(code_); }

private:
    int code_ = WIGWAG_OK;
    bool maybe_executed_ = false;
    int os_error_ = 0;
    std::string text_;
};

/** A value, or why there is none. As std::expected of C++23; to take the value of one that has none ends the program. */
template <class T>
class [[nodiscard]] result {
public:
    result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
    result(wigwag::error why) : held_(std::in_place_index<1>, std::move(why)) {}

    explicit operator bool() const noexcept { return held_.index() == 0; }
    bool has_value() const noexcept { return held_.index() == 0; }

    T &value() & { return *check(); }
    T &&value() && { return std::move(*check()); }
    T &operator*() & { return *check(); }
    T &&operator*() && { return std::move(*check()); }
    T *operator->() { return check(); }

    /** Why there is no value; of one that has it, an error that says `WIGWAG_OK`. */
    const wigwag::error &error() const noexcept
    {
        static const wigwag::error none;
        const wigwag::error *why = std::get_if<1>(&held_);
        return why != nullptr ? *why : none;
    }
    int code() const noexcept { return error().code(); }

private:
    T *check()
    {
        T *value = std::get_if<0>(&held_);
        if (value == nullptr) {
            std::fprintf(stderr, "wigwag: the value of a failed result was taken: %s\n", error().text().c_str());
            std::abort();
        }
        return value;
    }

    std::variant<T, wigwag::error> held_;
};

/** That something was done, or why not. */
template <>
class [[nodiscard]] result<void> {
public:
    result() = default;
    result(wigwag::error why) : why_(std::move(why)) {}

    explicit operator bool() const noexcept { return why_.code() == WIGWAG_OK; }
    bool has_value() const noexcept { return why_.code() == WIGWAG_OK; }
    const wigwag::error &error() const noexcept { return why_; }
    int code() const noexcept { return why_.code(); }

private:
    wigwag::error why_;
};

/** What a function without a value returns. */
using status = result<void>;

/** Options with their size set and everything else at its default. */
inline wigwag_connect_options connect_options() noexcept
{
    wigwag_connect_options options{};
    options.size = sizeof options;
    return options;
}

/** Options with their size set and everything else at its default. */
inline wigwag_listen_options listen_options() noexcept
{
    wigwag_listen_options options{};
    options.size = sizeof options;
    return options;
}

/** Options with their size set and everything else at its default. */
inline wigwag_keeper_options keeper_options() noexcept
{
    wigwag_keeper_options options{};
    options.size = sizeof options;
    return options;
}

namespace detail {

template <class T, int (*End)(T *)>
struct ender {
    void operator()(T *handle) const noexcept { End(handle); }
};

template <class T, int (*End)(T *)>
using owner = std::unique_ptr<T, ender<T, End>>;

/** Where the functions of this thread write why they failed. */
inline wigwag_error *told() noexcept
{
    thread_local owner<wigwag_error, wigwag_error_free> place{wigwag_error_new()};
    return place.get();
}

inline error why(int code)
{
    const wigwag_error *told = detail::told();
    if (told == nullptr)
        return {code, wigwag_code_name(code)};
    return {code, wigwag_error_text(told), wigwag_error_maybe_executed(told) != 0, wigwag_error_os_error(told)};
}

/** Lets a handle go that a function has ended; one that it did not touch is still owned. */
template <class Owner>
int settled(Owner &owner, int code) noexcept
{
    switch (code) {
    case WIGWAG_ERR_NULL:
    case WIGWAG_ERR_INVALID_HANDLE:
    case WIGWAG_ERR_IN_USE:
    case WIGWAG_ERR_INVALID_ARGUMENT:
        return code;
    default:
        static_cast<void>(owner.release());
        return code;
    }
}

inline status done(int code)
{
    if (code == WIGWAG_OK)
        return {};
    return why(code);
}

inline view bytes(void *data, std::size_t len) noexcept { return {static_cast<std::uint8_t *>(data), len}; }

inline const_view bytes(const void *data, std::size_t len) noexcept
{
    return {static_cast<const std::uint8_t *>(data), len};
}

/** What a function gave that returns a descriptor or a code. */
inline result<int> descriptor(int fd)
{
    if (fd < 0)
        return why(fd);
    return fd;
}

template <class Take>
result<std::vector<int>> descriptors(Take take)
{
    std::array<int, WIGWAG_DESCRIPTORS_MAX> fds{};
    std::size_t count = 0;
    if (int code = take(fds.data(), fds.size(), &count); code != WIGWAG_OK)
        return why(code);
    return std::vector<int>(fds.begin(), fds.begin() + static_cast<std::ptrdiff_t>(count));
}

} // namespace detail

class loan;

/** The same memory, changed by the server. */
class reply {
public:
    view bytes() const noexcept { return bytes_; }
    result<std::vector<int>> take_descriptors()
    {
        return detail::descriptors([this](int *fds, std::size_t capacity, std::size_t *count) {
            return wigwag_reply_take_descriptors(handle_.get(), fds, capacity, count, detail::told());
        });
    }
    /** The next request, where it lies. */
    result<loan> into_loan(std::size_t len) &&;

private:
    friend class loan;
    friend class pending;
    friend class client;
    reply(wigwag_reply *handle, view bytes) noexcept : handle_(handle), bytes_(bytes) {}

    detail::owner<wigwag_reply, wigwag_reply_release> handle_;
    view bytes_;
};

/** A call that is with the server. To destroy it gives it up. */
class pending {
public:
    /** Waits for the reply. One that is late (`WIGWAG_ERR_TIMED_OUT`, `WIGWAG_ERR_WOULD_BLOCK`) can be waited for again. */
    result<reply> wait(duration timeout = forever)
    {
        wigwag_reply *handle = nullptr;
        void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_pending_wait(handle_.get(), timeout.count(), &handle, &data, &len, detail::told());
        if (code != WIGWAG_ERR_TIMED_OUT && code != WIGWAG_ERR_WOULD_BLOCK)
            detail::settled(handle_, code); // it is a pending no more
        if (code != WIGWAG_OK)
            return detail::why(code);
        return reply{handle, detail::bytes(data, len)};
    }
    /** What client::process() finds it by. */
    void *key() const noexcept { return handle_.get(); }
    bool empty() const noexcept { return handle_ == nullptr; }

private:
    friend class loan;
    explicit pending(wigwag_pending *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_pending, wigwag_pending_abandon> handle_;
};

/** Memory that the server already has, to build a request there. */
class loan {
public:
    view bytes() const noexcept { return bytes_; }
    status attach(int fd) { return detail::done(wigwag_loan_attach(handle_.get(), fd, detail::told())); }
    /** Passes it and waits for the reply. */
    result<reply> call(duration timeout = forever) &&
    {
        wigwag_reply *handle = nullptr;
        void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_loan_call(handle_.get(), timeout.count(), &handle, &data, &len, detail::told());
        if (detail::settled(handle_, code) != WIGWAG_OK)
            return detail::why(code);
        return reply{handle, detail::bytes(data, len)};
    }
    /** Passes it and returns at once. */
    result<pending> send() &&
    {
        wigwag_pending *handle = nullptr;
        int code = wigwag_loan_send(handle_.get(), &handle, detail::told());
        if (detail::settled(handle_, code) != WIGWAG_OK)
            return detail::why(code);
        return pending{handle};
    }

private:
    friend class client;
    friend class reply;
    loan(wigwag_loan *handle, view bytes) noexcept : handle_(handle), bytes_(bytes) {}

    detail::owner<wigwag_loan, wigwag_loan_release> handle_;
    view bytes_;
};

inline result<loan> reply::into_loan(std::size_t len) &&
{
    wigwag_loan *handle = nullptr;
    void *data = nullptr;
    int code = wigwag_reply_into_loan(handle_.get(), len, &handle, &data, detail::told());
    if (detail::settled(handle_, code) != WIGWAG_OK)
        return detail::why(code);
    return loan{handle, detail::bytes(data, len)};
}

/** A session with a server. Its loans, pendings and replies may outlive it. */
class client {
public:
    static result<client> connect(const char *name, const wigwag_connect_options *options = nullptr)
    {
        wigwag_client *handle = nullptr;
        if (int code = wigwag_client_connect(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return client{handle};
    }
    /** Another session: for another thread. */
    result<client> clone() const
    {
        wigwag_client *handle = nullptr;
        if (int code = wigwag_client_clone(handle_.get(), &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return client{handle};
    }
    std::size_t capacity() const noexcept { return wigwag_client_capacity(handle_.get()); }
    std::size_t slots() const noexcept { return wigwag_client_slots(handle_.get()); }
    result<wigwag::loan> loan(std::size_t len, duration timeout = forever)
    {
        wigwag_loan *lent = nullptr;
        void *data = nullptr;
        int code = wigwag_client_loan(handle_.get(), len, timeout.count(), &lent, &data, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return wigwag::loan{lent, detail::bytes(data, len)};
    }
    /** Copies a request in, and calls. */
    result<reply> call(const_view request, duration timeout = forever)
    {
        wigwag_reply *handle = nullptr;
        void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_client_call(handle_.get(), request.data(), request.size(), timeout.count(), &handle, &data,
                                      &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return reply{handle, detail::bytes(data, len)};
    }
    /** Copies a request in, calls, and copies the reply out: for small payloads. The part of `into` that it fills. */
    result<view> call_copied(const_view request, view into, duration timeout = forever)
    {
        std::size_t len = 0;
        int code = wigwag_client_call_copied(handle_.get(), request.data(), request.size(), timeout.count(),
                                             into.data(), into.size(), &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return into.first(len);
    }
    result<int> fd() { return detail::descriptor(wigwag_client_fd(handle_.get(), detail::told())); }
    /** The key of a pending that is ready, or nullptr when none is: wait for the descriptor then. */
    result<void *> process()
    {
        wigwag_pending *ready = nullptr;
        if (int code = wigwag_client_process(handle_.get(), &ready, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return static_cast<void *>(ready);
    }
    /** For functions that are only in wigwag.h. */
    wigwag_client *get() const noexcept { return handle_.get(); }

private:
    explicit client(wigwag_client *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_client, wigwag_client_free> handle_;
};

/** Ends a service from any thread. */
class stop {
public:
    void shutdown() const noexcept { wigwag_stop_shutdown(handle_.get()); }
    void hand_over() const noexcept { wigwag_stop_hand_over(handle_.get()); }

private:
    friend class server;
    friend class receiver;
    friend class listener;
    friend class publisher;
    explicit stop(wigwag_stop *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_stop, wigwag_stop_free> handle_;
};

/** A request that was received. To destroy it drops it unanswered, of which the client is told. */
class request {
public:
    view bytes() const noexcept
    {
        void *data = nullptr;
        std::size_t len = 0;
        if (wigwag_request_data(get(), &data, &len, nullptr) != WIGWAG_OK)
            return {};
        return detail::bytes(data, len);
    }
    std::size_t capacity() const noexcept { return wigwag_request_capacity(get()); }
    status resize(std::size_t len) { return detail::done(wigwag_request_resize(get(), len, detail::told())); }
    status set_reply(const_view bytes)
    {
        return detail::done(wigwag_request_set_reply(get(), bytes.data(), bytes.size(), detail::told()));
    }
    bool is_abandoned() const noexcept { return wigwag_request_is_abandoned(get()) != 0; }
    /** How long the client still waits; negative if it has set no time. */
    duration time_left() const noexcept { return duration{wigwag_request_time_left_ns(get())}; }
    result<wigwag_peer> peer() const
    {
        wigwag_peer peer{};
        if (int code = wigwag_request_peer(get(), &peer, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return peer;
    }
    status attach(int fd) { return detail::done(wigwag_request_attach(get(), fd, detail::told())); }
    result<std::vector<int>> take_descriptors()
    {
        return detail::descriptors([this](int *fds, std::size_t capacity, std::size_t *count) {
            return wigwag_request_take_descriptors(get(), fds, capacity, count, detail::told());
        });
    }
    /** Answers with what is there. Not in a handler, whose return answers. */
    status reply() &&
    {
        return detail::done(detail::settled(handle_, wigwag_request_reply(get(), detail::told())));
    }
    /** Answers with an error. Not in a handler, which returns one. */
    status fail(const std::string &text) &&
    {
        return detail::done(detail::settled(handle_, wigwag_request_fail(get(), text.c_str(), detail::told())));
    }

private:
    friend class server;
    request(wigwag_request *handle, bool is_owned) noexcept : lent_(is_owned ? nullptr : handle)
    {
        if (is_owned)
            handle_.reset(handle);
    }
    wigwag_request *get() const noexcept { return lent_ != nullptr ? lent_ : handle_.get(); }

    detail::owner<wigwag_request, wigwag_request_drop> handle_;
    wigwag_request *lent_ = nullptr;
};

/** Owns a name, and changes what clients hand it. */
class server {
public:
    static result<server> bind(const char *name, const wigwag_listen_options *options = nullptr)
    {
        wigwag_server *handle = nullptr;
        if (int code = wigwag_server_bind(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return server{handle};
    }
    /**
     * Serves on this thread until it is stopped. `handler` is called with a `request &`, and returns nothing, or a
     * status that fails the request. It must not throw.
     */
    template <class Handler>
    status serve(Handler &&handler)
    {
        return detail::done(
            wigwag_server_serve(handle_.get(), &called<std::remove_reference_t<Handler>>, address(handler),
                                detail::told()));
    }
    /** The same on so many threads, each of which calls the handler. */
    template <class Handler>
    status serve_on(std::size_t threads, Handler &&handler)
    {
        return detail::done(wigwag_server_serve_on(handle_.get(), threads, &called<std::remove_reference_t<Handler>>,
                                                   address(handler), detail::told()));
    }
    result<request> recv(duration timeout = forever)
    {
        wigwag_request *received = nullptr;
        int code = wigwag_server_recv(handle_.get(), timeout.count(), &received, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return request{received, true};
    }
    result<int> fd() { return detail::descriptor(wigwag_server_fd(handle_.get(), detail::told())); }
    /** The next request, or none: wait for the descriptor then. */
    result<std::optional<request>> process()
    {
        wigwag_request *received = nullptr;
        if (int code = wigwag_server_process(handle_.get(), &received, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        if (received == nullptr)
            return std::optional<request>{};
        return std::optional<request>{request{received, true}};
    }
    result<wigwag::stop> stop() const
    {
        wigwag_stop *handle = nullptr;
        if (int code = wigwag_server_stop(handle_.get(), &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return wigwag::stop{handle};
    }
    const char *path() const noexcept { return wigwag_server_path(handle_.get()); }
    wigwag_server *get() const noexcept { return handle_.get(); }

private:
    explicit server(wigwag_server *handle) noexcept : handle_(handle) {}

    template <class Handler>
    static void *address(Handler &handler) noexcept
    {
        return const_cast<void *>(static_cast<const void *>(std::addressof(handler)));
    }
    template <class Handler>
    static int called(wigwag_request *lent, void *user)
    {
        Handler &handler = *static_cast<Handler *>(user);
        request asked{lent, false};
        if constexpr (std::is_void_v<decltype(handler(asked))>) {
            handler(asked);
            return 0;
        } else {
            status done = handler(asked);
            if (done)
                return 0;
            wigwag_request_fail(lent, done.error().text().c_str(), nullptr);
            return done.code();
        }
    }

    detail::owner<wigwag_server, wigwag_server_free> handle_;
};

/** Sends messages one way. To destroy it waits as its options say; close() says what came of it. */
class sender {
public:
    static result<sender> connect(const char *name, const wigwag_connect_options *options = nullptr)
    {
        wigwag_sender *handle = nullptr;
        if (int code = wigwag_sender_connect(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return sender{handle};
    }
    std::size_t capacity() const noexcept { return wigwag_sender_capacity(handle_.get()); }
    std::size_t slots() const noexcept { return wigwag_sender_slots(handle_.get()); }
    status send(const_view message, duration timeout = forever)
    {
        return detail::done(
            wigwag_sender_send(handle_.get(), message.data(), message.size(), timeout.count(), detail::told()));
    }
    /** Room for a message, written where it will be read; commit() or discard() must follow. */
    result<view> loan(std::size_t len, duration timeout = forever)
    {
        void *data = nullptr;
        int code = wigwag_sender_loan(handle_.get(), len, timeout.count(), &data, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return detail::bytes(data, len);
    }
    status commit() { return detail::done(wigwag_sender_commit(handle_.get(), detail::told())); }
    void discard() noexcept { wigwag_sender_discard(handle_.get()); }
    status attach(int fd) { return detail::done(wigwag_sender_attach(handle_.get(), fd, detail::told())); }
    status flush(duration timeout = forever)
    {
        return detail::done(wigwag_sender_flush(handle_.get(), timeout.count(), detail::told()));
    }
    /** Waits until all is acknowledged, and ends. */
    status close() &&
    {
        return detail::done(detail::settled(handle_, wigwag_sender_close(handle_.get(), detail::told())));
    }
    result<int> fd() { return detail::descriptor(wigwag_sender_fd(handle_.get(), detail::told())); }
    /** Whether a message can be sent; if not, wait for the descriptor, which tells of the next receiver, too. */
    result<bool> process()
    {
        int has_room = 0;
        int code = wigwag_sender_process(handle_.get(), &has_room, nullptr, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return has_room != 0;
    }
    wigwag_sender *get() const noexcept { return handle_.get(); }

private:
    explicit sender(wigwag_sender *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_sender, wigwag_sender_free> handle_;
};

/** A message that was received. To destroy it acknowledges it. */
class message {
public:
    const_view bytes() const noexcept { return bytes_; }
    bool is_redelivered() const noexcept { return wigwag_message_is_redelivered(handle_.get()) != 0; }
    /** Done with it. */
    void ack() && { handle_.reset(); }
    /** It is to be delivered again. */
    void nack() && { wigwag_message_nack(handle_.release()); }
    result<std::vector<int>> take_descriptors()
    {
        return detail::descriptors([this](int *fds, std::size_t capacity, std::size_t *count) {
            return wigwag_message_take_descriptors(handle_.get(), fds, capacity, count, detail::told());
        });
    }

private:
    friend class receiver;
    message(wigwag_message *handle, const_view bytes) noexcept : handle_(handle), bytes_(bytes) {}

    detail::owner<wigwag_message, wigwag_message_ack> handle_;
    const_view bytes_;
};

/** Owns the name of a queue, and takes what senders send there. */
class receiver {
public:
    static result<receiver> bind(const char *name, const wigwag_listen_options *options = nullptr)
    {
        wigwag_receiver *handle = nullptr;
        if (int code = wigwag_receiver_bind(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return receiver{handle};
    }
    result<message> recv(duration timeout = forever)
    {
        wigwag_message *received = nullptr;
        const void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_receiver_recv(handle_.get(), timeout.count(), &received, &data, &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return message{received, detail::bytes(data, len)};
    }
    result<int> fd() { return detail::descriptor(wigwag_receiver_fd(handle_.get(), detail::told())); }
    /** The next message, or none: wait for the descriptor then. */
    result<std::optional<message>> process()
    {
        wigwag_message *received = nullptr;
        const void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_receiver_process(handle_.get(), &received, &data, &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        if (received == nullptr)
            return std::optional<message>{};
        return std::optional<message>{message{received, detail::bytes(data, len)}};
    }
    result<wigwag::stop> stop() const
    {
        wigwag_stop *handle = nullptr;
        if (int code = wigwag_receiver_stop(handle_.get(), &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return wigwag::stop{handle};
    }
    const char *path() const noexcept { return wigwag_receiver_path(handle_.get()); }
    wigwag_receiver *get() const noexcept { return handle_.get(); }

private:
    explicit receiver(wigwag_receiver *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_receiver, wigwag_receiver_free> handle_;
};

/** Keeps the messages of receivers that name it (`kept_by`) until both sides are dead, and hands them on. */
class keeper {
public:
    static result<keeper> start(const char *name, const wigwag_keeper_options *options = nullptr)
    {
        wigwag_keeper *handle = nullptr;
        if (int code = wigwag_keeper_start(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return keeper{handle};
    }
    result<wigwag_keeper_stats> statistics() const
    {
        wigwag_keeper_stats stats{};
        stats.size = sizeof stats;
        if (int code = wigwag_keeper_statistics(handle_.get(), &stats, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return stats;
    }
    const char *path() const noexcept { return wigwag_keeper_path(handle_.get()); }

private:
    explicit keeper(wigwag_keeper *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_keeper, wigwag_keeper_free> handle_;
};

/** One end of a byte stream. */
class stream {
public:
    static result<stream> connect(const char *name, const wigwag_connect_options *options = nullptr)
    {
        wigwag_stream *handle = nullptr;
        if (int code = wigwag_stream_connect(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return stream{handle};
    }
    /** How many bytes were read; 0 is the end. */
    result<std::size_t> read(view into)
    {
        std::size_t got = 0;
        int code = wigwag_stream_read(handle_.get(), into.data(), into.size(), &got, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return got;
    }
    /** How many bytes were written. */
    result<std::size_t> write(const_view from)
    {
        std::size_t put = 0;
        int code = wigwag_stream_write(handle_.get(), from.data(), from.size(), &put, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return put;
    }
    status read_exact(view into)
    {
        return detail::done(wigwag_stream_read_exact(handle_.get(), into.data(), into.size(), detail::told()));
    }
    status write_all(const_view from)
    {
        return detail::done(wigwag_stream_write_all(handle_.get(), from.data(), from.size(), detail::told()));
    }
    /** The bytes that there are, where they lie; none is the end. */
    result<const_view> peek()
    {
        const void *data = nullptr;
        std::size_t len = 0;
        if (int code = wigwag_stream_peek(handle_.get(), &data, &len, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return detail::bytes(data, len);
    }
    status consume(std::size_t len)
    {
        return detail::done(wigwag_stream_consume(handle_.get(), len, detail::told()));
    }
    /** The room that there is, where the bytes will lie. */
    result<view> reserve()
    {
        void *data = nullptr;
        std::size_t len = 0;
        if (int code = wigwag_stream_reserve(handle_.get(), &data, &len, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return detail::bytes(data, len);
    }
    status commit(std::size_t len) { return detail::done(wigwag_stream_commit(handle_.get(), len, detail::told())); }
    status shutdown(int how = WIGWAG_SHUTDOWN_BOTH)
    {
        return detail::done(wigwag_stream_shutdown(handle_.get(), how, detail::told()));
    }
    status abort(const std::string &reason)
    {
        return detail::done(wigwag_stream_abort(handle_.get(), reason.c_str(), detail::told()));
    }
    status set_nonblocking(bool is_nonblocking)
    {
        return detail::done(wigwag_stream_set_nonblocking(handle_.get(), is_nonblocking ? 1 : 0, detail::told()));
    }
    result<int> fd() { return detail::descriptor(wigwag_stream_fd(handle_.get(), detail::told())); }
    wigwag_stream *get() const noexcept { return handle_.get(); }

private:
    friend class listener;
    explicit stream(wigwag_stream *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_stream, wigwag_stream_free> handle_;
};

/** Owns a name, and accepts streams. */
class listener {
public:
    static result<listener> bind(const char *name, const wigwag_listen_options *options = nullptr)
    {
        wigwag_listener *handle = nullptr;
        if (int code = wigwag_listener_bind(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return listener{handle};
    }
    result<stream> accept()
    {
        wigwag_stream *accepted = nullptr;
        if (int code = wigwag_listener_accept(handle_.get(), &accepted, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return stream{accepted};
    }
    status set_nonblocking(bool is_nonblocking)
    {
        return detail::done(wigwag_listener_set_nonblocking(handle_.get(), is_nonblocking ? 1 : 0, detail::told()));
    }
    result<int> fd() { return detail::descriptor(wigwag_listener_fd(handle_.get(), detail::told())); }
    result<wigwag::stop> stop() const
    {
        wigwag_stop *handle = nullptr;
        if (int code = wigwag_listener_stop(handle_.get(), &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return wigwag::stop{handle};
    }
    const char *path() const noexcept { return wigwag_listener_path(handle_.get()); }

private:
    explicit listener(wigwag_listener *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_listener, wigwag_listener_free> handle_;
};

/** Publishes messages to all who listen. To destroy it ends the broadcast, of which they are told. */
class publisher {
public:
    static result<publisher> bind(const char *name, const wigwag_listen_options *options = nullptr)
    {
        wigwag_publisher *handle = nullptr;
        if (int code = wigwag_publisher_bind(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return publisher{handle};
    }
    /** Publishes a copy. The message's number. */
    result<std::uint64_t> send(const_view message, duration timeout = forever)
    {
        std::uint64_t sequence = 0;
        int code = wigwag_publisher_send(handle_.get(), message.data(), message.size(), timeout.count(), &sequence,
                                         detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return sequence;
    }
    /** Room for a message, written where all will read it; commit() or discard() must follow. */
    result<view> loan(std::size_t len, duration timeout = forever)
    {
        void *data = nullptr;
        int code = wigwag_publisher_loan(handle_.get(), len, timeout.count(), &data, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return detail::bytes(data, len);
    }
    /** Publishes what was lent. The message's number. */
    result<std::uint64_t> commit()
    {
        std::uint64_t sequence = 0;
        if (int code = wigwag_publisher_commit(handle_.get(), &sequence, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return sequence;
    }
    void discard() noexcept { wigwag_publisher_discard(handle_.get()); }
    status wait_for_subscribers(std::size_t count, duration timeout = forever)
    {
        return detail::done(
            wigwag_publisher_wait_for_subscribers(handle_.get(), count, timeout.count(), detail::told()));
    }
    result<int> fd() { return detail::descriptor(wigwag_publisher_fd(handle_.get(), detail::told())); }
    /** Whether a message has room; if not, wait for the descriptor. */
    result<bool> process()
    {
        int has_room = 0;
        int code = wigwag_publisher_process(handle_.get(), &has_room, nullptr, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return has_room != 0;
    }
    /** Who listens, and how far each is. */
    result<std::vector<wigwag_subscriber_state>> subscribers() const
    {
        std::vector<wigwag_subscriber_state> all;
        if (int code = wigwag_publisher_subscribers(handle_.get(), &seen, &all, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return all;
    }
    result<wigwag_publisher_stats> statistics() const
    {
        wigwag_publisher_stats stats{};
        stats.size = sizeof stats;
        if (int code = wigwag_publisher_statistics(handle_.get(), &stats, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return stats;
    }
    result<wigwag::stop> stop() const
    {
        wigwag_stop *handle = nullptr;
        if (int code = wigwag_publisher_stop(handle_.get(), &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return wigwag::stop{handle};
    }
    const char *path() const noexcept { return wigwag_publisher_path(handle_.get()); }
    wigwag_publisher *get() const noexcept { return handle_.get(); }

private:
    explicit publisher(wigwag_publisher *handle) noexcept : handle_(handle) {}

    static int seen(const wigwag_subscriber_state *state, void *user)
    {
        static_cast<std::vector<wigwag_subscriber_state> *>(user)->push_back(*state);
        return 0;
    }

    detail::owner<wigwag_publisher, wigwag_publisher_free> handle_;
};

/** A message of a publisher, where it was written. To destroy it lets go of it. It may outlive its subscriber. */
class sample {
public:
    const_view bytes() const noexcept { return bytes_; }
    std::uint64_t sequence() const noexcept { return wigwag_sample_sequence(handle_.get()); }
    /** How many messages were lost between the one that was taken before and this one. */
    std::uint64_t lost_before() const noexcept { return wigwag_sample_lost_before(handle_.get()); }
    bool is_of_new_publisher() const noexcept { return wigwag_sample_is_of_new_publisher(handle_.get()) != 0; }
    bool is_in_place() const noexcept { return wigwag_sample_is_in_place(handle_.get()) != 0; }
    /** Done with it. */
    void release() && { handle_.reset(); }

private:
    friend class subscriber;
    sample(wigwag_sample *handle, const_view bytes) noexcept : handle_(handle), bytes_(bytes) {}

    detail::owner<wigwag_sample, wigwag_sample_release> handle_;
    const_view bytes_;
};

/** A message that was copied: the part of the room that it fills, and what it was. */
struct copied {
    view bytes;
    wigwag_receipt receipt;
};

/** Takes the messages of a publisher. */
class subscriber {
public:
    static result<subscriber> connect(const char *name, const wigwag_connect_options *options = nullptr)
    {
        wigwag_subscriber *handle = nullptr;
        if (int code = wigwag_subscriber_connect(name, options, &handle, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return subscriber{handle};
    }
    /** The next message in place. `WIGWAG_ERR_ENDED` says that the broadcast has ended, and all is read. */
    result<sample> recv(duration timeout = forever)
    {
        wigwag_sample *taken = nullptr;
        const void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_subscriber_recv(handle_.get(), timeout.count(), &taken, &data, &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return sample{taken, detail::bytes(data, len)};
    }
    /** The next message, copied. One that does not fit (`WIGWAG_ERR_CAPACITY_EXCEEDED`) is the next one still. */
    result<copied> recv_copied(view into, duration timeout = forever)
    {
        std::size_t len = 0;
        wigwag_receipt receipt{};
        receipt.size = sizeof receipt;
        int code = wigwag_subscriber_recv_copied(handle_.get(), timeout.count(), into.data(), into.size(), &len,
                                                 &receipt, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return copied{into.first(len), receipt};
    }
    result<int> fd() { return detail::descriptor(wigwag_subscriber_fd(handle_.get(), detail::told())); }
    /** The next message, or none: wait for the descriptor then. */
    result<std::optional<sample>> process()
    {
        wigwag_sample *taken = nullptr;
        const void *data = nullptr;
        std::size_t len = 0;
        int code = wigwag_subscriber_process(handle_.get(), &taken, &data, &len, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        if (taken == nullptr)
            return std::optional<sample>{};
        return std::optional<sample>{sample{taken, detail::bytes(data, len)}};
    }
    /** How many messages were published and not taken yet. */
    std::uint64_t lag() const noexcept { return wigwag_subscriber_lag(handle_.get()); }
    std::size_t capacity() const noexcept { return wigwag_subscriber_capacity(handle_.get()); }
    std::size_t history() const noexcept { return wigwag_subscriber_history(handle_.get()); }
    result<wigwag_peer> peer() const
    {
        wigwag_peer peer{};
        if (int code = wigwag_subscriber_peer(handle_.get(), &peer, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return peer;
    }
    result<wigwag_subscriber_stats> statistics() const
    {
        wigwag_subscriber_stats stats{};
        stats.size = sizeof stats;
        if (int code = wigwag_subscriber_statistics(handle_.get(), &stats, detail::told()); code != WIGWAG_OK)
            return detail::why(code);
        return stats;
    }
    wigwag_subscriber *get() const noexcept { return handle_.get(); }

private:
    explicit subscriber(wigwag_subscriber *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_subscriber, wigwag_subscriber_free> handle_;
};

/** Permits that are held. To destroy it gives them back. */
class permit {
public:
    /** How many of them were held by a process that died. */
    std::size_t recovered() const noexcept { return wigwag_permit_recovered(handle_.get()); }

private:
    friend class semaphore;
    explicit permit(wigwag_permit *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_permit, wigwag_permit_release> handle_;
};

/** So many permits for all programs of this user that open the name. */
class semaphore {
public:
    static result<semaphore> open(const char *name, std::size_t permits = 1, bool shared_with_children = false)
    {
        wigwag_semaphore *handle = nullptr;
        int code = wigwag_semaphore_open(name, permits, shared_with_children ? 1 : 0, &handle, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return semaphore{handle};
    }
    result<permit> acquire(duration timeout = forever, std::size_t permits = 1)
    {
        wigwag_permit *held = nullptr;
        int code = wigwag_semaphore_acquire(handle_.get(), permits, timeout.count(), &held, detail::told());
        if (code != WIGWAG_OK)
            return detail::why(code);
        return permit{held};
    }
    std::size_t available() const noexcept { return wigwag_semaphore_available(handle_.get()); }

private:
    explicit semaphore(wigwag_semaphore *handle) noexcept : handle_(handle) {}

    detail::owner<wigwag_semaphore, wigwag_semaphore_free> handle_;
};

} // namespace wigwag

#endif /* WIGWAG_HPP */
