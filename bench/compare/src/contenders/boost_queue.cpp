// Boost.Interprocess message_queue behind a plain C interface; see boost.rs for the configuration.

#include <boost/interprocess/ipc/message_queue.hpp>

using boost::interprocess::message_queue;

extern "C" {

// Makes (or opens) a queue; nothing where that fails.
void* wigwag_boost_open(const char* name, int create, size_t messages, size_t bytes) {
    try {
        if (create) {
            return new message_queue(boost::interprocess::create_only, name, messages, bytes);
        }
        return new message_queue(boost::interprocess::open_only, name);
    } catch (...) {
        return nullptr;
    }
}

// 1 when sent, 0 when there was no room (only where it polls), -1 when it failed.
int wigwag_boost_send(void* queue, const void* bytes, size_t length, int polls) {
    try {
        message_queue* messages = static_cast<message_queue*>(queue);
        if (polls) {
            return messages->try_send(bytes, length, 0) ? 1 : 0;
        }
        messages->send(bytes, length, 0);
        return 1;
    } catch (...) {
        return -1;
    }
}

// The length of what was received, -2 when there was nothing (only where it polls), -1 when it failed.
long wigwag_boost_receive(void* queue, void* bytes, size_t length, int polls) {
    try {
        message_queue* messages = static_cast<message_queue*>(queue);
        message_queue::size_type received = 0;
        unsigned int priority = 0;
        if (polls) {
            if (!messages->try_receive(bytes, length, received, priority)) {
                return -2;
            }
        } else {
            messages->receive(bytes, length, received, priority);
        }
        return static_cast<long>(received);
    } catch (...) {
        return -1;
    }
}

}
