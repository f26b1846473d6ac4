// operator new in all its forms, exceptions between the calls, and deletes that name a size or an alignment.
#include "common.h"

#include <new>
#include <stdexcept>

struct alignas(256) wide {
    char bytes[1024];
};

static void do_new(char *) {
    hold(::operator new(opaque(10007)), 10007);
    hold(new char[opaque(20011)], 20011);
    hold(::operator new(opaque(30011), std::nothrow), 30011);
    hold(new (std::nothrow) char[opaque(40009)], 40009);
}

static void do_aligned(char *) {
    hold(new wide, sizeof(wide));
    hold(new wide[opaque(3)], 3 * sizeof(wide));
    hold(::operator new(opaque(20480), std::align_val_t(4096)), 20480);
}

static void do_delete(char *) {
    ::operator delete(leave(hold(::operator new(opaque(10007)), 10007)));
    ::operator delete(leave(hold(::operator new(opaque(10007)), 10007)), size_t(10007));
    delete[] static_cast<char *>(leave(hold(new char[opaque(20011)], 20011)));
    auto aligned = std::align_val_t(4096);
    ::operator delete(leave(hold(::operator new(opaque(4096), aligned), 4096)), aligned);
    ::operator delete(leave(hold(::operator new(opaque(4096), aligned), 4096)), size_t(4096), aligned);
    delete static_cast<char *>(nullptr);
    hold(::operator new(opaque(50021)), 50021);
}

static void do_bad_alloc(char *) {
    for (int n = 0; n < 10; n++) {
        bool caught = false;
        try {
            hold(::operator new(opaque(PTRDIFF_MAX)), 0);
        } catch (const std::bad_alloc &) {
            caught = true;
        }
        if (!caught) fail("no bad_alloc");
        if (::operator new(opaque(PTRDIFF_MAX), std::nothrow)) fail("nothrow");
        hold(::operator new(opaque(10007 + n)), 10007 + n);
    }
}

__attribute__((noinline)) static void throws(unsigned depth) {
    hold(::operator new(opaque(20011)), 20011);
    if (!depth) throw std::runtime_error("a message long enough to be kept on the heap, not inside the object");
    throws(depth - 1);
    __asm__ volatile("");
}

static void do_exception(char *) {
    for (int n = 0; n < 10; n++) {
        try {
            throws(5);
        } catch (const std::runtime_error &) {
            hold(::operator new(opaque(30011)), 30011);
        }
    }
}

ACTIONS({"new", do_new}, {"aligned", do_aligned}, {"delete", do_delete}, {"bad_alloc", do_bad_alloc},
        {"exception", do_exception})
