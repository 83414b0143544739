#include <cstdio>

#include <wigwag.hpp>

int main()
{
    auto client = wigwag::client::connect("./nobody-has-this-name");
    std::printf("wigwag %s from C++: %s\n", wigwag_version(), client.error().name());
    return client ? 1 : 0;
}
