// Frames of every make that a C++ compiler and its library give: each action takes blocks under one of them.
#include "common.h"

#include <algorithm>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define APART __attribute__((noinline, noclone))

static unsigned taken;

APART static void take(size_t size) {
    char *block = static_cast<char *>(::operator new(opaque(size)));
    __asm__ volatile("" : "+r"(block));
    if (taken++ % 2) ::operator delete(block);
}

// Templates twenty-one deep that end in operator new and lose the block.
namespace deep {
template <unsigned N> struct level {
    APART static char *take(size_t size) {
        char *block = level<N - 1>::take(size);
        __asm__ volatile("" : "+r"(block));
        return block;
    }
};
template <> struct level<0> {
    APART static char *take(size_t size) {
        char *block = new char[size];
        __asm__ volatile("" : "+r"(block));
        return block;
    }
};
} // namespace deep

static void do_deep(char *) { deep::level<20>::take(opaque(21021)); }

// Blocks taken while an exception is in flight: by destructors on the way, by handlers, by exceptions thrown in them.
struct takes_at_its_end {
    size_t size;
    explicit takes_at_its_end(size_t size) : size(size) {}
    ~takes_at_its_end() { take(size); }
};

APART static void throws(unsigned left) {
    takes_at_its_end one(201);
    if (!left) throw std::runtime_error("a message that is longer than what a string keeps inside itself");
    throws(left - 1);
    __asm__ volatile("" : : "r"(&one) : "memory");
}

APART static void rethrows(unsigned left) {
    try {
        throws(left);
    } catch (const std::exception &error) {
        take(202);
        takes_at_its_end one(203);
        try {
            throws(1);
        } catch (const std::runtime_error &) {
            take(204);
        }
        throw std::logic_error(std::string(error.what()) + error.what());
    }
}

static void do_exceptions(char *) {
    for (unsigned left = 0; left < 6; left++) {
        try {
            rethrows(left);
        } catch (const std::logic_error &error) {
            take(205 + std::string(error.what()).size() % 2);
        }
    }
}

// Virtual calls, thunks, function objects, members through pointers.
struct first_base {
    virtual ~first_base() = default;
    virtual void one(unsigned left) = 0;
};
struct second_base {
    virtual ~second_base() = default;
    virtual void two(unsigned left) = 0;
};
struct derived : first_base, virtual second_base {
    APART void one(unsigned left) override {
        second_base *other = this;
        left ? other->two(left - 1) : take(207);
        __asm__ volatile("");
    }
    APART void two(unsigned left) override {
        first_base *other = this;
        left ? other->one(left - 1) : take(208);
        __asm__ volatile("");
    }
};

static void do_virtual(char *) {
    derived object;
    first_base *base = &object;
    for (unsigned left = 0; left < 8; left++) base->one(left);
    std::function<void(unsigned)> call = [&](unsigned left) { left ? call(left - 1) : take(209); };
    call(6);
    void (first_base::*member)(unsigned) = &first_base::one;
    std::bind(member, base, 3)();
}

// The standard library at work.
static void do_library(char *) {
    std::map<std::string, std::vector<std::unique_ptr<std::string>>> words;
    std::ostringstream text;
    for (unsigned n = 0; n < 200; n++) {
        text << "number " << n << ' ' << n / 7.0 << '\n';
        words[text.str().substr(text.str().size() / 2)].push_back(std::make_unique<std::string>(n, 'x'));
    }
    std::string string = text.str();
    std::regex pattern("n[uU](m|x)ber ([0-9]+)");
    unsigned found = 0;
    for (std::sregex_iterator at(string.begin(), string.begin() + 400, pattern), end; at != end; ++at) found++;
    std::vector<std::string> order;
    for (auto &word : words) order.push_back(word.first);
    std::stable_sort(order.begin(), order.end(), [](const std::string &a, const std::string &b) {
        if (a.size() % 16 == 0) take(210);
        return a > b;
    });
    auto later = std::async(std::launch::async, [found] {
        take(211);
        return found;
    });
    later.get();
    static std::once_flag once;
    std::call_once(once, [] { take(212); });
}

static void do_threads(char *) {
    std::vector<std::thread> threads;
    for (unsigned n = 0; n < 4; n++)
        threads.emplace_back([n] {
            thread_local takes_at_its_end end(213);
            end.size = 213;
            char none[1] = {};
            do_exceptions(none);
            deep::level<20>::take(opaque(214 + n));
        });
    for (auto &thread : threads) thread.join();
}

ACTIONS({"deep", do_deep}, {"exceptions", do_exceptions}, {"virtual", do_virtual}, {"library", do_library},
        {"threads", do_threads})
