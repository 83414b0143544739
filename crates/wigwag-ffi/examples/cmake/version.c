#include <stdio.h>
#include <string.h>

#include <wigwag.h>

int main(void)
{
    printf("wigwag %s\n", wigwag_version());
    return strcmp(wigwag_version(), WIGWAG_VERSION) != 0;
}
