// All forms in C++, both sides in one program: no exceptions, no handle that is freed by hand.
//
//     c++ -std=c++17 tour.cc $(pkg-config --cflags --libs wigwag) -lpthread -o tour && ./tour DIRECTORY
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <wigwag.hpp>

namespace {

struct order {
    std::uint64_t id;
    std::int64_t price;
};

// Takes the value out of a result, or ends the program with its sentence.
template <class T>
T must(wigwag::result<T> result)
{
    if (!result) {
        std::fprintf(stderr, "tour: %s: %s\n", result.error().name(), result.error().text().c_str());
        std::exit(1);
    }
    return std::move(*result);
}

void must(const wigwag::status &status)
{
    if (!status) {
        std::fprintf(stderr, "tour: %s: %s\n", status.error().name(), status.error().text().c_str());
        std::exit(1);
    }
}

void exchange(const std::string &name)
{
    auto server = must(wigwag::server::bind(name.c_str()));
    auto stop = must(server.stop());
    std::thread serving([&server] {
        must(server.serve([](wigwag::request &request) -> wigwag::status {
            auto asked = request.bytes().get<order>();
            if (!asked)
                return wigwag::error::failed("an order has 16 bytes");
            asked->price += 1;
            request.bytes().put(*asked);
            return {};
        }));
    });
    auto client = must(wigwag::client::connect(name.c_str()));
    auto loan = must(client.loan(sizeof(order)));
    loan.bytes().put(order{7, 99});
    auto reply = must(std::move(loan).call(std::chrono::seconds(5)));
    std::printf("order %llu costs %lld\n", static_cast<unsigned long long>(reply.bytes().get<order>()->id),
                static_cast<long long>(reply.bytes().get<order>()->price));
    auto refused = client.call(wigwag::bytes_of("short"));
    std::printf("refused: %s\n", refused.error().text().c_str());
    stop.shutdown();
    serving.join();
}

void queue(const std::string &name)
{
    auto receiver = must(wigwag::receiver::bind(name.c_str()));
    auto sender = must(wigwag::sender::connect(name.c_str()));
    must(sender.send(wigwag::bytes_of("one")));
    auto room = must(sender.loan(3)); // written where it will be read
    std::memcpy(room.data(), "two", 3);
    must(sender.commit());
    for (int count = 0; count < 2; count++) {
        auto message = must(receiver.recv(std::chrono::seconds(5)));
        std::printf("message: %s\n", std::string(message.bytes().text()).c_str());
    } // each is acknowledged where it goes out of scope
    must(std::move(sender).close());
}

void stream(const std::string &name)
{
    auto listener = must(wigwag::listener::bind(name.c_str()));
    auto near = must(wigwag::stream::connect(name.c_str()));
    auto far = must(listener.accept());
    must(near.write_all(wigwag::bytes_of("bytes both ways")));
    must(near.shutdown(WIGWAG_SHUTDOWN_WRITE));
    std::string text;
    for (auto bytes = must(far.peek()); !bytes.empty(); bytes = must(far.peek())) {
        text += bytes.text();
        must(far.consume(bytes.size()));
    }
    std::printf("stream: %s\n", text.c_str());
}

void broadcast(const std::string &name)
{
    auto publisher = must(wigwag::publisher::bind(name.c_str()));
    auto one = must(wigwag::subscriber::connect(name.c_str()));
    auto other = must(wigwag::subscriber::connect(name.c_str()));
    must(publisher.send(wigwag::bytes_of("1.07")));
    for (auto *subscriber : {&one, &other}) {
        auto sample = must(subscriber->recv(std::chrono::seconds(5)));
        std::printf("to all: %s, number %llu, %llu lost before\n", std::string(sample.bytes().text()).c_str(),
                    static_cast<unsigned long long>(sample.sequence()),
                    static_cast<unsigned long long>(sample.lost_before()));
    } // each is let go of where it goes out of scope
}

void semaphore(const std::string &name)
{
    auto permits = must(wigwag::semaphore::open(name.c_str(), 2));
    auto one = must(permits.acquire());
    auto none = permits.acquire(wigwag::duration{0}, 2);
    std::printf("permits: %zu free, two at once: %s\n", permits.available(), none.error().name());
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: tour DIRECTORY\n");
        return 2;
    }
    const std::string directory = argv[1];
    exchange(directory + "/orders");
    queue(directory + "/jobs");
    stream(directory + "/bytes");
    broadcast(directory + "/prices");
    semaphore(directory + "/permits");
    return 0;
}
