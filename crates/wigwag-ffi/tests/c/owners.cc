// A broadcast by its owners in C++: what each function gives, and that what goes out of scope is ended.
// `owners DIRECTORY`.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <wigwag.hpp>

namespace {

using namespace std::chrono_literals;

void check(bool is_so, const char *what, int line)
{
    if (!is_so) {
        std::fprintf(stderr, "owners.cc:%d: not so: %s\n", line, what);
        std::exit(1);
    }
}
#define CHECK(condition) check(static_cast<bool>(condition), #condition, __LINE__)

template <class T>
T must(wigwag::result<T> result)
{
    if (!result) {
        std::fprintf(stderr, "owners: %s: %s\n", result.error().name(), result.error().text().c_str());
        std::exit(1);
    }
    return std::move(*result);
}

template <class Owner>
constexpr bool is_move_only = std::is_move_constructible_v<Owner> && std::is_move_assignable_v<Owner> &&
                              !std::is_copy_constructible_v<Owner> && !std::is_copy_assignable_v<Owner>;
static_assert(is_move_only<wigwag::publisher> && is_move_only<wigwag::subscriber> && is_move_only<wigwag::sample>);
static_assert(is_move_only<wigwag::keeper> && is_move_only<wigwag::receiver>);

void samples(const std::string &name)
{
    auto options = wigwag::listen_options();
    options.history = 4;
    options.slots = 2;
    auto publisher = must(wigwag::publisher::bind(name.c_str(), &options));
    CHECK(publisher.path() == name);
    CHECK(publisher.wait_for_subscribers(1, 1ms).code() == WIGWAG_ERR_TIMED_OUT);
    auto subscriber = must(wigwag::subscriber::connect(name.c_str()));
    CHECK(publisher.wait_for_subscribers(1, 30s));
    CHECK(subscriber.history() == 4 && subscriber.capacity() == 65536 && must(subscriber.peer()).pid != 0);
    CHECK(subscriber.recv(wigwag::duration{0}).code() == WIGWAG_ERR_WOULD_BLOCK);

    CHECK(must(publisher.send(wigwag::bytes_of("short"))) == 1);
    auto room = must(publisher.loan(100));
    std::memset(room.data(), 7, room.size());
    CHECK(publisher.send(wigwag::bytes_of("x")).code() == WIGWAG_ERR_IN_USE);
    CHECK(must(publisher.commit()) == 2);
    must(publisher.loan(8));
    publisher.discard();
    CHECK(must(publisher.process()) && subscriber.lag() == 2);
    CHECK(must(subscriber.recv()).bytes().text() == "short"); // let go of at once

    std::vector<wigwag::sample> kept;
    kept.push_back(must(subscriber.recv(30s)));
    CHECK(kept[0].is_in_place() && kept[0].sequence() == 2 && kept[0].lost_before() == 0);
    CHECK(!kept[0].is_of_new_publisher() && must(subscriber.statistics()).held == 1);
    auto seen = must(publisher.subscribers());
    CHECK(seen.size() == 1 && seen[0].holds == 1 && seen[0].lag == 0 && seen[0].received == 2);
    wigwag::sample moved = std::move(kept[0]);
    kept.clear();
    CHECK(moved.bytes()[99] == 7 && must(subscriber.statistics()).held == 1);
    std::move(moved).release();
    CHECK(must(subscriber.statistics()).held == 0);

    std::array<std::uint8_t, 8> into{};
    must(publisher.send(wigwag::bytes_of("nine long")));
    CHECK(subscriber.recv_copied(into).code() == WIGWAG_ERR_CAPACITY_EXCEEDED);
    auto left = must(subscriber.process()); // it is the next one still
    CHECK(left && left->bytes().text() == "nine long");
    must(publisher.send(wigwag::bytes_of("eight...")));
    auto copied = must(subscriber.recv_copied(into, 30s));
    CHECK(copied.bytes.text() == "eight..." && copied.receipt.sequence == 4 && copied.receipt.lost_before == 0);
    CHECK(must(publisher.statistics()).published == 4);

    CHECK(!must(subscriber.process()) && must(subscriber.fd()) >= 0 && must(publisher.fd()) >= 0);
    { // the end of the scope is that of the broadcast
        wigwag::publisher last = std::move(publisher);
    }
    CHECK(subscriber.recv(30s).code() == WIGWAG_ERR_ENDED);
    CHECK(wigwag::subscriber::connect(name.c_str()).code() == WIGWAG_ERR_NOT_RUNNING);
}

void stops(const std::string &name)
{
    auto publisher = must(wigwag::publisher::bind(name.c_str()));
    auto stop = must(publisher.stop());
    std::thread other([&stop] { stop.shutdown(); });
    CHECK(publisher.wait_for_subscribers(1).code() == WIGWAG_ERR_SERVER_CLOSED);
    other.join();
    must(wigwag::publisher::bind(name.c_str())); // the name is free
}

// Two workers of one queue, whose messages a keeper has.
void workers(const std::string &name)
{
    auto keeping = wigwag::keeper_options();
    keeping.max_sessions = 8;
    auto keeper = must(wigwag::keeper::start(name.c_str(), &keeping));
    CHECK(keeper.path() == name + ".keeper" && must(keeper.statistics()).max_sessions == 8);
    auto options = wigwag::listen_options();
    options.shared = 1;
    options.kept_by = name.c_str();
    auto one = must(wigwag::receiver::bind(name.c_str(), &options));
    auto other = must(wigwag::receiver::bind(name.c_str(), &options));
    CHECK(wigwag::server::bind(name.c_str(), &options).code() == WIGWAG_ERR_INVALID_ARGUMENT);
    auto sender = must(wigwag::sender::connect(name.c_str()));
    CHECK(sender.send(wigwag::bytes_of("one")));
    CHECK(sender.send(wigwag::bytes_of("two")));
    auto messages = std::make_pair(must(one.recv(30s)), must(other.recv(30s)));
    CHECK(messages.first.bytes().size() == 3 && messages.second.bytes().size() == 3);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: owners DIRECTORY\n");
        return 2;
    }
    const std::string directory = argv[1];
    samples(directory + "/samples");
    workers(directory + "/workers");
    stops(directory + "/stops");
    std::puts("owners");
    return 0;
}
