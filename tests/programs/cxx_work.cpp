// A C++ program at ordinary work: strings, maps, vectors, shared objects, threads, exceptions, aligned objects.
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include <cstdio>
#include <iostream>

struct alignas(64) wide {
    char bytes[192] = {};
};

struct holding {
    std::map<std::string, std::vector<unsigned>> words;
    std::vector<std::shared_ptr<std::string>> shared;
    std::vector<std::unique_ptr<wide>> wides;
};

static unsigned long crunch(unsigned round, unsigned part, holding &result) {
    std::unordered_map<std::string, std::string> other;
    unsigned long sum = 0;
    for (unsigned n = 0; n < 2500; n++) {
        std::string word = std::to_string(round) + "-a-rather-long-prefix-" + std::to_string(n * n % 997) + "-" + std::to_string(part);
        result.words[word].push_back(n);
        other[word + "!"] = word + word;
        if (n % 10 == 0) result.shared.push_back(std::make_shared<std::string>(word));
        if (n % 25 == 0) result.wides.push_back(std::make_unique<wide>());
        try {
            if (n % 100 == 0) throw std::runtime_error("a message that is too long to be kept inside: " + word);
        } catch (const std::runtime_error &error) {
            sum += std::string(error.what()).size();
        }
    }
    for (auto &[word, numbers] : result.words) sum += word.size() * numbers.size();
    for (auto &[word, text] : other) sum += text.size();
    return sum;
}

int main() {
    std::vector<holding> kept;
    std::cout << "ready" << std::endl;
    for (std::string line; std::getline(std::cin, line) && line != "quit";) {
        unsigned round = 0;
        std::sscanf(line.c_str(), "work %u", &round);
        std::vector<holding> results(4);
        std::vector<unsigned long> sums(4);
        std::vector<std::thread> threads;
        for (unsigned part = 0; part < 4; part++)
            threads.emplace_back([&, part] { sums[part] = crunch(round, part, results[part]); });
        for (auto &thread : threads) thread.join();
        unsigned long sum = 0;
        for (unsigned part = 0; part < 4; part++) {
            sum += sums[part];
            if (part % 2) kept.push_back(std::move(results[part]));
        }
        if (kept.size() > 8) kept.erase(kept.begin(), kept.begin() + 3);
        std::cout << "done " << sum << " " << kept.size() << std::endl;
    }
    return 0;
}
